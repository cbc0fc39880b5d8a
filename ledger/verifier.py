# SPDX-License-Identifier: Apache-2.0
"""Checks a ledger entry by entry, in one pass and in memory that does not grow.

Hashes are taken over the bytes as stored, never over something written anew. What
these checks cannot see is named in each verdict: entries after the last checkpoint,
and whether the key is really the ledger's (`key_pinned`).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ledger.bundle_verifier import verify_bundle
from ledger.checkpoint import Checkpoint, VerifierKey, verify_note
from ledger.entries import Entry
from ledger.errors import FormatError, SignatureError, UnknownSchemaError
from ledger.failures import Failure, FailureKind, FailureLog, Verdict, Window
from ledger.merkle import CompactRange, leaf_hash
from ledger.note import Note
from ledger.succession import KeyRing, Link

__all__ = [
    "LEDGER_HEAD",
    "Failure",
    "FailureKind",
    "Verdict",
    "examine_entries",
    "verify_bundle",
    "verify_entries",
]

#: Where a failure is about what a store says of its ledger's size and frontier.
LEDGER_HEAD: Final = "ledger head"


def verify_entries(
    entries: Iterable[tuple[int, bytes, bytes]],
    checkpoints: Iterable[str],
    key: VerifierKey | None,
    *,
    cover_until: int | None = None,
) -> list[Failure]:
    """Return what is wrong with a ledger; see `examine_entries`."""
    verdict = examine_entries(entries, checkpoints, key, cover_until=cover_until)
    return list(verdict.failures)


def examine_entries(
    entries: Iterable[tuple[int, bytes, bytes]],
    checkpoints: Iterable[str],
    key: VerifierKey | None,
    *,
    cover_until: int | None = None,
    stated: CompactRange | None = None,
    links: Iterable[Link] = (),
) -> Verdict:
    """Return the verdict over a whole ledger, read from index 0 in order.

    Args:
        entries: (index, stored body, stored leaf hash).
        checkpoints: signed notes in any order.
        key: the ledger's key from outside; without it no signature is checked.
        cover_until: only entries below this index must be covered by a checkpoint
            (other runs may still be writing); None asks for all of them.
        stated: what the store itself says of the ledger's head, read before the
            entries; nobody has signed that, but entries must not fall short of it.
        links: where one key handed over to another, as the entries say.
    """
    log = FailureLog()
    ring = None if key is None else KeyRing.of(key, links)
    heads = _read_checkpoints(checkpoints, ring, log)
    ordered = deque(sorted(heads, key=lambda head: head.checkpoint.size))
    walk = _Walk(log, ordered, stated=stated)
    walk.pass_heads()
    for index, body, stored in entries:
        walk.take(index, body, stored)
    walk.finish(cover_until)
    if ring is not None and walk.covered <= ring.vouched_from:
        log.add(
            FailureKind.BAD_SIGNATURE,
            f"entry {ring.vouched_from}",
            "the key is said to follow another one, and nothing that it signed says so",
        )
    return Verdict(
        entries=walk.count,
        covered=walk.covered,
        first=walk.window.first,
        last=walk.window.last,
        key_pinned=key is not None,
        failures=log.result(),
    )


@dataclass(frozen=True, slots=True)
class _Head:
    checkpoint: Checkpoint
    is_signed: bool


def _read_checkpoints(
    notes: Iterable[str], ring: KeyRing | None, log: FailureLog
) -> list[_Head]:
    heads: dict[tuple[str, int, bytes], _Head] = {}
    for number, text in enumerate(notes):
        try:
            note = Note.parse(text)
            checkpoint = Checkpoint.parse(note.text)
        except FormatError as exc:
            log.add(FailureKind.BAD_SIGNATURE, f"checkpoint number {number}", str(exc))
            continue
        is_signed = True
        if ring is not None:
            try:
                verify_note(note, ring.key_for(checkpoint.size))
            except SignatureError as exc:
                is_signed = False
                where = f"checkpoint {checkpoint.size}"
                log.add(FailureKind.BAD_SIGNATURE, where, str(exc))
        mark = (checkpoint.origin, checkpoint.size, checkpoint.root)
        if mark not in heads or is_signed:
            heads[mark] = _Head(checkpoint, is_signed)
    _check_one_history([head for head in heads.values() if head.is_signed], log)
    return list(heads.values())


def _check_one_history(heads: list[_Head], log: FailureLog) -> None:
    """A key that signed two roots of one size, or two origins, has forked."""
    seen: dict[int, Checkpoint] = {}
    for head in heads:
        this = head.checkpoint
        other = seen.setdefault(this.size, this)
        where = f"checkpoint {this.size}"
        if this.origin != heads[0].checkpoint.origin:
            log.add(
                FailureKind.INCONSISTENT,
                where,
                "the checkpoint is of another ledger",
                expected=heads[0].checkpoint.origin,
                got=this.origin,
            )
        elif other.root != this.root:
            log.add(
                FailureKind.INCONSISTENT,
                where,
                "two checkpoints of this size state different roots: the ledger forked",
                expected=other.root.hex(),
                got=this.root.hex(),
            )


@dataclass(slots=True)
class _Walk:
    """One pass over the entries, meeting each checkpoint at its size."""

    log: FailureLog
    heads: deque[_Head]
    stated: CompactRange | None = None
    tree: CompactRange = field(default_factory=CompactRange)
    window: Window = field(default_factory=Window)
    count: int = 0
    covered: int = 0
    #: The index that must come next.
    expected: int = 0
    #: Largest size that a signed checkpoint states, whether its root held or not.
    vouched: int = 0
    #: A gap or a doubled index: roots from here on cannot be recomputed.
    is_broken: bool = False

    def __post_init__(self) -> None:
        signed = (head.checkpoint.size for head in self.heads if head.is_signed)
        self.vouched = max(signed, default=0)

    def take(self, index: int, body: bytes, stored: bytes) -> None:
        """The walk has checked one more entry and the checkpoints at its end."""
        self._check_index(index)
        self.count += 1
        computed = leaf_hash(body)
        if computed != stored:
            self.log.add(
                FailureKind.ENTRY_MISMATCH,
                f"entry {index}",
                "the stored body does not have the stored leaf hash",
                expected=stored.hex(),
                got=computed.hex(),
            )
        self._check_form(index, body)
        if not self.is_broken:
            self.tree.append(computed)
            self.pass_heads()

    def pass_heads(self) -> None:
        """Every checkpoint of the current size has met the recomputed root."""
        stated = self.stated
        if stated is not None and stated.size == self.tree.size:
            if stated.frontier != self.tree.frontier:
                self.log.add(
                    FailureKind.ROOT_MISMATCH,
                    LEDGER_HEAD,
                    f"the ledger's head is not that of the first {stated.size} entries",
                    expected=stated.root().hex(),
                    got=self.tree.root().hex(),
                )
            self.stated = None
        while self.heads and self.heads[0].checkpoint.size == self.tree.size:
            head = self.heads.popleft()
            checkpoint = head.checkpoint
            root = self.tree.root()
            if root == checkpoint.root:
                if head.is_signed:
                    self.covered = checkpoint.size
                continue
            self.log.add(
                FailureKind.ROOT_MISMATCH,
                f"checkpoint {checkpoint.size}",
                f"the entries {self.covered}..{checkpoint.size - 1} are not those "
                "that were signed",
                expected=checkpoint.root.hex(),
                got=root.hex(),
            )

    def finish(self, cover_until: int | None) -> None:
        """Every checkpoint beyond the end and every uncovered entry is reported."""
        beyond = [
            head.checkpoint.size
            for head in self.heads
            if head.checkpoint.size > self.expected
        ]
        if beyond:
            size = max(beyond)
            self.log.add(
                FailureKind.MISSING_ENTRIES,
                f"entries {self.expected}..{size - 1}",
                "a checkpoint covers entries that the ledger no longer has",
                expected=str(size),
                got=str(self.expected),
            )
        if self.stated is not None and self.stated.size > self.expected:
            self.log.add(
                FailureKind.MISSING_ENTRIES,
                f"entries {self.expected}..{self.stated.size - 1}",
                "the ledger's head counts entries that the ledger no longer has",
                expected=str(self.stated.size),
                got=str(self.expected),
            )
        end = self.expected if cover_until is None else cover_until
        if end > self.vouched:
            self.log.add(
                FailureKind.NOT_COVERED,
                f"entries {self.vouched}..{end - 1}",
                f"{end - self.vouched} entries are newer than the last signed "
                "checkpoint, so nothing protects them yet",
            )

    def _check_index(self, index: int) -> None:
        if index > self.expected:
            self.is_broken = True
            self.log.add(
                FailureKind.MISSING_ENTRIES,
                f"entries {self.expected}..{index - 1}",
                "the ledger has a gap",
                expected=str(self.expected),
                got=str(index),
            )
        elif index < self.expected:
            self.is_broken = True
            self.log.add(
                FailureKind.INCONSISTENT,
                f"entry {index}",
                "the index comes twice or out of order",
                expected=str(self.expected),
                got=str(index),
            )
        self.expected = max(self.expected, index + 1)

    def _check_form(self, index: int, body: bytes) -> None:
        try:
            self.window.see(Entry.parse(body))
        except UnknownSchemaError as exc:
            self.log.add(FailureKind.UNKNOWN_SCHEMA, f"entry {index}", str(exc))
        except FormatError as exc:
            self.log.add(FailureKind.ENTRY_MISMATCH, f"entry {index}", str(exc))

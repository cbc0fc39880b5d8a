# SPDX-License-Identifier: Apache-2.0
"""What every bundle rests on: the signed head, the entries' proofs, what is outside.

A checkpoint from outside (an anchor, or the one that an auditor kept) is held against
the bundle's head by the consistency proofs that the bundle brings along.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from ledger.bundle import CHECKPOINT, ENTRIES, INFO, Bundle, BundleEntry
from ledger.checkpoint import Checkpoint, VerifierKey, verify_note
from ledger.entries import Action, Entry
from ledger.errors import (
    DamagedBundleError,
    FormatError,
    ProofError,
    SignatureError,
    UnknownSchemaError,
)
from ledger.failures import FailureKind, FailureLog, Window
from ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.note import Note
from ledger.succession import KeyRing, Link, read_link

#: What people did with a finished run; its result does not rest on it.
_DEEDS: Final = frozenset(
    {
        Action.RUN_READ,
        Action.REPORT_READ,
        Action.ITEM_READ,
        Action.RESULTS_READ,
        Action.RESULTS_EXPORTED,
        Action.EVIDENCE_EXPORTED,
        Action.LEDGER_VERIFIED,
        Action.REPORT_SIGNED,
        Action.RUN_REVERIFIED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What whoever verifies was given by another way than the bundle.

    Attributes:
        key: The ledger's public key.
        anchors: Signed notes from places that the ledger's owner cannot change.
        earlier: Signed notes that whoever verifies has kept.
    """

    key: VerifierKey | None = None
    anchors: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()


@dataclass(slots=True)
class Evidence:
    """The head and the entries of one bundle, as far as they have been checked."""

    bundle: Bundle
    log: FailureLog
    outside: Outside
    window: Window = field(default_factory=Window)
    count: int = 0
    covered: int = 0
    #: How many entries tell of this run, and the last that its result rests on.
    own: int = 0
    last_own: int = -1
    #: Entries that an anchor vouches for; None where none was given.
    anchored: int | None = None
    head: Checkpoint | None = None
    is_signed: bool = False
    ring: KeyRing | None = None

    def read_head(self, origin: str, vkey: str | None) -> None:
        """The signed head is known, and whether a trusted key has signed it."""
        try:
            note = Note.parse(self.bundle.checkpoint_note())
            self.head = Checkpoint.parse(note.text)
        except FormatError as exc:
            self.log.add(FailureKind.BAD_SIGNATURE, CHECKPOINT, str(exc))
            return
        if self.head.origin != origin:
            self.log.add(
                FailureKind.INCONSISTENT,
                INFO,
                "the bundle and its checkpoint name different ledgers",
                expected=self.head.origin,
                got=origin,
            )
        try:
            self.ring = KeyRing.of(self._known_key(vkey), self._links())
            verify_note(note, self.ring.key_for(self.head.size))
        except (SignatureError, FormatError) as exc:
            self.log.add(FailureKind.BAD_SIGNATURE, CHECKPOINT, str(exc))
            return
        if self.head.size <= self.ring.vouched_from:
            self.log.add(
                FailureKind.BAD_SIGNATURE,
                CHECKPOINT,
                "the key is a later one, and nothing that it signed is here",
            )
            return
        self.is_signed = True

    def _known_key(self, vkey: str | None) -> VerifierKey:
        if self.outside.key is not None:
            return self.outside.key
        if vkey is None:
            raise SignatureError("no key was given and the bundle hints at none")
        return VerifierKey.parse(vkey)

    def _links(self) -> Iterable[Link]:
        """Return the links among the entries; where they are broken, as far as here."""
        links = []
        try:
            for line in self.bundle.entry_lines():
                stored = BundleEntry.parse(line)
                link = read_link(stored.index, stored.body)
                if link is not None:
                    links.append(link)
        except FormatError:
            pass  # named where the entries are checked
        return links

    def read_entries(self, run: str, remember: Callable[[int, Entry], None]) -> None:
        """Every entry has been held against the head; the run's own are remembered."""
        previous = -1
        try:
            for number, line in enumerate(self.bundle.entry_lines(), start=1):
                self.count += 1
                try:
                    stored = BundleEntry.parse(line)
                except FormatError as exc:
                    where = f"{ENTRIES} line {number}"
                    self.log.add(FailureKind.ENTRY_MISMATCH, where, str(exc))
                    continue
                if stored.index <= previous:
                    self.log.add(
                        FailureKind.INCONSISTENT,
                        f"entry {stored.index}",
                        f"the index does not come after {previous}",
                    )
                previous = stored.index
                self._entry(stored, run, remember)
        except DamagedBundleError as exc:
            self.log.add(FailureKind.ENTRY_MISMATCH, ENTRIES, str(exc))
        if not self.own:
            self.log.add(
                FailureKind.MISSING_ENTRIES, f"run/{run}", "no entry tells of it"
            )

    def _entry(
        self, stored: BundleEntry, run: str, remember: Callable[[int, Entry], None]
    ) -> None:
        where = f"entry {stored.index}"
        if self.head is not None:
            self._proof(where, stored, self.head)
        try:
            entry = Entry.parse(stored.body)
        except UnknownSchemaError as exc:
            self.log.add(FailureKind.UNKNOWN_SCHEMA, where, str(exc))
            return
        except FormatError as exc:
            self.log.add(FailureKind.ENTRY_MISMATCH, where, str(exc))
            return
        self.window.see(entry)
        if f"{entry.object}/".startswith(f"run/{run}/"):
            self.own += 1
            if entry.action not in _DEEDS:
                self.last_own = max(self.last_own, stored.index)
            remember(stored.index, entry)

    def _proof(self, where: str, stored: BundleEntry, head: Checkpoint) -> None:
        if stored.index >= head.size:
            self.log.add(
                FailureKind.NOT_COVERED,
                where,
                f"the entry is newer than the checkpoint of {head.size} entries",
            )
            return
        try:
            verify_inclusion(
                leaf_hash(stored.body),
                stored.index,
                head.size,
                stored.proof,
                head.root,
            )
        except ProofError as exc:
            self.log.add(FailureKind.ENTRY_MISMATCH, where, str(exc))
        else:
            self.covered += self.is_signed

    def compare_outside(self) -> None:
        """The head goes on from every checkpoint that came from outside."""
        try:
            proofs = self.bundle.consistency()
        except FormatError as exc:
            self.log.add(FailureKind.INCONSISTENT, "consistency.jsonl", str(exc))
            proofs = {}
        for note in self.outside.earlier:
            if self._compare("earlier checkpoint", note, proofs) is None:
                self.log.add(
                    FailureKind.INCONSISTENT,
                    "earlier checkpoint",
                    "the bundle does not prove that it goes on from this checkpoint; "
                    "ask for one made with --since",
                )
        if not self.outside.anchors:
            return
        found = [self._compare("anchor", note, proofs) for note in self.outside.anchors]
        self.anchored = max((size for size in found if size is not None), default=0)
        if self.anchored <= self.last_own:
            self.log.add(
                FailureKind.NOT_ANCHORED,
                f"entries {self.anchored}..{self.last_own}",
                "no anchor that was given covers these entries of the run",
            )

    def _compare(
        self, where: str, text: str, proofs: dict[int, tuple[bytes, ...]]
    ) -> int | None:
        """Return the size of a checkpoint that the head goes on from, else None."""
        if self.head is None or self.ring is None:
            return None
        try:
            note = Note.parse(text)
            old = Checkpoint.parse(note.text)
            verify_note(note, self.ring.key_for(old.size))
        except (FormatError, SignatureError) as exc:
            self.log.add(FailureKind.BAD_SIGNATURE, where, str(exc))
            return None
        proof = () if old.size == self.head.size else proofs.get(old.size)
        if proof is None or not 0 < old.size <= self.head.size:
            return None
        try:
            verify_consistency(
                old.size, self.head.size, proof, old.root, self.head.root
            )
        except ProofError as exc:
            self.log.add(
                FailureKind.INCONSISTENT, f"{where} of {old.size} entries", str(exc)
            )
            return 0
        return old.size

# SPDX-License-Identifier: Apache-2.0
"""Reading the ledger as a log: by run, actor, action and time; reading is logged."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ledger.checkpoint import Checkpoint, read_unverified
from ledger.entries import Action, Entry, rfc3339
from ledger.errors import FormatError
from pipeline.deeds import record_deed
from pipeline.evidence import proven_entry
from pipeline.services import Services
from storage.engine import reading
from storage.ledger_writer import latest_checkpoint, ledger_size, read_entries
from storage.log_rows import newest_first
from storage.stored_tree import StoredTree


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which entries are wanted; what is None wants all."""

    run: str | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, entry: Entry) -> bool:
        """Whether an entry is wanted."""
        return (
            (self.run is None or f"{entry.object}/".startswith(f"run/{self.run}/"))
            and (self.actor is None or entry.actor == self.actor)
            and (self.action is None or entry.action.startswith(self.action))
            and (self.since is None or entry.moment >= self.since)
            and (self.until is None or entry.moment < self.until)
        )

    def to_details(self) -> dict[str, str]:
        """Return the filter as an entry of the ledger tells it."""
        found: dict[str, str | None] = {
            "run": self.run,
            "actor": self.actor,
            "action": self.action,
            "since": rfc3339(self.since) if self.since else None,
            "until": rfc3339(self.until) if self.until else None,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """An entry with its place, and the path to the signed head where there is one."""

    index: int
    entry: Entry
    leaf_hash: bytes
    proof: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedLog:
    """Entries that a signed checkpoint covers, and its note."""

    note: str
    entries: Iterator[LoggedEntry]

    @property
    def head(self) -> Checkpoint:
        """What the note states."""
        return read_unverified(self.note)


def read_log(services: Services, wanted: LogFilter, *, limit: int) -> list[LoggedEntry]:
    """Return the newest entries that are wanted, the oldest of them first.

    That somebody reads is an entry itself, recorded first; it is not among them.
    """
    end = ledger_size(services.engine)
    record_deed(services, Action.LEDGER_READ, "ledger", details=wanted.to_details())
    found: list[LoggedEntry] = []
    for index, body, leaf in newest_first(services.engine, end):
        entry = _parsed(body)
        if entry is None or not wanted.takes(entry):
            continue
        found.append(LoggedEntry(index=index, entry=entry, leaf_hash=leaf))
        if len(found) == limit:
            break
    found.reverse()
    return found


def signed_log(services: Services, wanted: LogFilter, *, form: str) -> SignedLog | None:
    """Return every wanted entry that is signed, with its proof; None before the first.

    That somebody takes them away is an entry itself, recorded first.

    Raises:
        BrokenLedgerError: a proof does not lead to the signed root.
    """
    record_deed(
        services,
        Action.LEDGER_EXPORTED,
        "ledger",
        details={"format": form, **wanted.to_details()},
    )
    note = latest_checkpoint(services.engine)
    if note is None:
        return None
    return SignedLog(
        note=note, entries=_proven(services, read_unverified(note), wanted)
    )


def _proven(
    services: Services, head: Checkpoint, wanted: LogFilter
) -> Iterator[LoggedEntry]:
    with reading(services.engine) as session:
        tree = StoredTree(session)
        for index, body, leaf in read_entries(services.engine, 0, head.size - 1):
            entry = _parsed(body)
            if entry is None or not wanted.takes(entry):
                continue
            proven = proven_entry(tree, head, index, body, leaf)
            yield LoggedEntry(
                index=index, entry=entry, leaf_hash=leaf, proof=proven.proof
            )


def _parsed(body: bytes) -> Entry | None:
    """Return the entry; one that is none is for `verify` to name."""
    try:
        return Entry.parse(body)
    except FormatError:
        return None

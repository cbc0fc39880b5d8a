# SPDX-License-Identifier: Apache-2.0
"""What the ledger says of one run, its last word on each matter."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from ledger.entries import Action, Entry
from ledger.errors import FormatError
from ledger.succession import Link, read_link
from pipeline.services import Services
from storage.engine import reading
from storage.ledger_places import read_places
from storage.ledger_writer import read_entries
from storage.raw import checked_rows, raw_columns
from storage.tables import OutboxTable

#: The index of an entry in the outbox: beyond every checkpoint there is, because
#: nothing vouches for it yet.
UNORDERED: Final = 1 << 62


@dataclass(slots=True)
class RunEntries:
    """What the ledger says of one run.

    Attributes:
        last_index: Of the entry that finalised the run; -1 where there is none.
        finished: By shard, the entry that it finished.
        waiting: Entries of the run that are recorded and not yet in the ledger.
        planned, finalised, report: The last entry of each kind. A retry takes back
            that the run was finalised.
        indexes: Of the run's entries that have their place in the ledger.
        links: Where one signing key handed over to another, of any run.
    """

    last_index: int = -1
    finished: dict[int, Entry] = field(default_factory=dict)
    waiting: int = 0
    planned: Entry | None = None
    finalised: Entry | None = None
    report: Entry | None = None
    #: Nothing is left of the run but its row, because its time was over.
    purged: Entry | None = None
    #: Sign-offs of the run's reports, and re-verifications, with their indexes.
    signed: list[tuple[int, Entry]] = field(default_factory=list)
    reverified: list[tuple[int, Entry]] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)

    @property
    def is_ordered(self) -> bool:
        """Whether the run's end has its place in the ledger."""
        return 0 <= self.last_index < UNORDERED

    def take(self, index: int, entry: Entry) -> None:
        """One more entry of the run is taken into account."""
        match entry.action:
            case Action.SHARD_FINISHED | Action.SHARD_REWRITTEN:
                number = entry.object.rpartition("/")[2]
                if number.isdecimal():
                    self.finished[int(number)] = entry
            case Action.RUN_PLANNED:
                self.planned = entry
            case Action.RUN_FINALISED:
                self.finalised, self.last_index = entry, index
            case Action.RUN_RETRIED:
                self.finalised, self.last_index = None, -1
            case Action.RUN_PURGED:
                self.purged = entry
            case Action.REPORT_SIGNED:
                self.signed.append((index, entry))
            case Action.RUN_REVERIFIED:
                self.reverified.append((index, entry))
            case Action.REPORT_WRITTEN | Action.REPORT_REWRITTEN:
                self.report = entry
            case _:
                pass


def entries_of(
    services: Services, run_id: str, *, by_index: bool = False
) -> RunEntries:
    """Return what the ledger and its outbox say of a run.

    The outbox is read first: an entry that is ordered meanwhile is met twice, which
    changes nothing, and never not at all.

    Args:
        services: The database.
        run_id: The run.
        by_index: Whether to read only the entries that `ledger_places` names. That is
            fast, and no check: whoever verifies reads them all.
    """
    said = RunEntries()
    waiting = {
        body: entry for body in _outbox(services) if (entry := _own(body, run_id))
    }
    read = (
        read_places(services.engine, run_id)
        if by_index
        else read_entries(services.engine)
    )
    for index, body, _leaf in read:
        link = read_link(index, body)
        if link is not None:
            said.links.append(link)
        entry = _own(body, run_id)
        if entry is not None:
            said.take(index, entry)
            said.indexes.append(index)
            waiting.pop(body, None)
    said.waiting = len(waiting)
    for entry in waiting.values():
        said.take(UNORDERED, entry)
    return said


def _outbox(services: Services) -> Iterator[bytes]:
    with reading(services.engine) as session:
        rows = session.execute(
            sa.select(*raw_columns(OutboxTable)).order_by(OutboxTable.id)
        )
        yield from (row.body for row, _ in checked_rows(OutboxTable, rows))


def _own(body: bytes, run_id: str) -> Entry | None:
    """Return the entry if it tells of the run; one that is none is named elsewhere."""
    # Canonical bytes hold the name as it is, and most entries are about another run.
    if f'"object":"run/{run_id}'.encode() not in body:
        return None
    try:
        entry = Entry.parse(body)
    except FormatError:
        return None
    return entry if f"{entry.object}/".startswith(f"run/{run_id}/") else None

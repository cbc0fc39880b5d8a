# SPDX-License-Identifier: Apache-2.0
"""Where in the ledger a run, or a part of it, is told of: an index and no evidence.

The sequencer writes it beside the entries. It follows from them, so `affidavit verify`
can hold it against them; a row too few makes evidence incomplete, which its verifier
names, and a row too many names an entry that is about something else.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.succession import MARK
from storage.engine import reading
from storage.raw import checked_rows, raw_columns
from storage.tables import EntryTable, LedgerPlaceTable

#: Stands for a run where a signing key hands over to the next.
NO_RUN: Final = ""
HANDOVER: Final = "key"
#: Rows read in one statement.
PAGE: Final = 1_000

#: The end of a canonical entry about a run: its keys are sorted, so that `object` and
#: `schema` are the last, and no text can hold a quotation mark that is not escaped.
#: Whatever is longer or otherwise written was not written by this program.
_ABOUT_RUN = re.compile(
    rb'"object":"run/([A-Za-z0-9._-]{1,32})(?:/([A-Za-z0-9._:@=+/-]{1,200}))?"'
    rb',"schema":"[^"\\]{1,40}"\}\Z'
)


def place_of(body: bytes) -> tuple[str, str] | None:
    """Return the run and the part of it that an entry is about, None for others.

    The part is empty where the entry is about the run as a whole.
    """
    found = _ABOUT_RUN.search(body)
    if found is not None:
        return found[1].decode("ascii"), (found[2] or b"").decode("ascii")
    return (NO_RUN, HANDOVER) if MARK in body else None


def write_places(session: Session, entries: Iterable[tuple[int, bytes]]) -> None:
    """The places of these entries (index, body) are in the table.

    A row that is there already, left by a ledger that was cut, stops no sequencer.
    """
    # Loading a dialect takes a while, and only sequencers come here.
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    rows = place_rows(entries)
    if rows:
        is_postgres = session.get_bind().dialect.name == "postgresql"
        insert = postgresql.insert if is_postgres else sqlite.insert
        table: Any = LedgerPlaceTable.__table__
        session.connection().execute(insert(table).on_conflict_do_nothing(), rows)


def place_rows(entries: Iterable[tuple[int, bytes]]) -> list[dict[str, Any]]:
    """Return the rows of these entries (index, body); some have no place."""
    return [
        {"run_id": place[0], "part": place[1], "idx": index}
        for index, body in entries
        if (place := place_of(body)) is not None
    ]


def indexes_of(engine: sa.Engine, run_id: str) -> list[int]:
    """Return the indexes of the entries that the run's rows name, in order."""
    query = (
        sa.select(LedgerPlaceTable.idx)
        .where(LedgerPlaceTable.run_id == run_id)
        .order_by(LedgerPlaceTable.idx)
    )
    with reading(engine) as session:
        return list(session.scalars(query))


def read_places(
    engine: sa.Engine,
    run_id: str,
    *,
    parts: Sequence[str] | None = None,
    until: int | None = None,
) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (index, body, leaf hash) of the entries about a run, and of key handovers.

    Reads in pages, like `storage.ledger_writer.read_entries`, and in the same order.

    Args:
        engine: The database.
        run_id: The run.
        parts: Only entries about these parts of it; empty text is the run as a whole.
        until: Only entries below this index.
    """
    wanted = LedgerPlaceTable.run_id == run_id
    if parts is not None:
        wanted = sa.and_(wanted, LedgerPlaceTable.part.in_(parts))
    handover = sa.and_(
        LedgerPlaceTable.run_id == NO_RUN, LedgerPlaceTable.part == HANDOVER
    )
    following = 0
    while True:
        places = (
            sa.select(LedgerPlaceTable.idx)
            .where(sa.or_(wanted, handover), LedgerPlaceTable.idx >= following)
            .order_by(LedgerPlaceTable.idx)
            .limit(PAGE)
        )
        if until is not None:
            places = places.where(LedgerPlaceTable.idx < until)
        with reading(engine) as session:
            found: list[Any] = list(session.scalars(places))
            # SQLite takes anything into a cell; what is no index names no entry.
            indexes = [index for index in found if isinstance(index, int)]
            rows = session.execute(
                sa.select(*raw_columns(EntryTable))
                .where(EntryTable.idx.in_(indexes))
                .order_by(EntryTable.idx)
            ).all()
        for row, _bad in checked_rows(EntryTable, rows):
            yield row.idx, row.body, row.leaf_hash
        if len(indexes) < PAGE:
            return
        following = indexes[-1] + 1

# SPDX-License-Identifier: Apache-2.0
"""The manifest of a run in the `locations` table: written once, read by slices."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.bulk import insert_rows
from storage.engine import reading
from storage.tables import LocationTable


def write_locations(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """The rows are part of the manifest, in the caller's transaction."""
    insert_rows(session, LocationTable, rows)


def mark_duplicates(session: Session, run_id: str) -> int:
    """Each item with the URI of an earlier one points at it; return how many do."""
    first = (
        sa.select(
            LocationTable.uri, sa.func.min(LocationTable.item_index).label("item_index")
        )
        .where(LocationTable.run_id == run_id)
        .group_by(LocationTable.uri)
        .having(sa.func.count() > 1)
        .subquery("first")
    )
    # One pass to group and one to join, whatever the share of duplicates.
    result: sa.CursorResult[Any] = session.connection().execute(
        sa.update(LocationTable)
        .where(
            LocationTable.run_id == run_id,
            LocationTable.uri == first.c.uri,
            # The sum keeps SQLite from looking the index up by key, once for each URI.
            LocationTable.item_index + 0 > first.c.item_index,
        )
        .values(duplicate_of=first.c.item_index)
        .execution_options(synchronize_session=False)
    )
    return int(result.rowcount)


def iterate_duplicates(session: Session, run_id: str) -> Iterator[tuple[int, int]]:
    """Yield (item, earlier item) of those that repeat one, in manifest order."""
    rows = session.execute(
        sa.select(LocationTable.item_index, LocationTable.duplicate_of)
        .where(LocationTable.run_id == run_id, LocationTable.duplicate_of.is_not(None))
        .order_by(LocationTable.item_index)
        .execution_options(yield_per=2000)
    )
    for row in rows:
        yield row.item_index, row.duplicate_of


def read_locations(
    engine: sa.Engine, run_id: str, *, first_item: int, item_count: int
) -> list[LocationTable]:
    """Return a slice of the manifest, in order."""
    with reading(engine) as session:
        rows = session.scalars(
            sa.select(LocationTable)
            .where(
                LocationTable.run_id == run_id,
                LocationTable.item_index >= first_item,
                LocationTable.item_index < first_item + item_count,
            )
            .order_by(LocationTable.item_index)
        )
        return list(rows)


def find_location(engine: sa.Engine, run_id: str, item: str) -> LocationTable | None:
    """Return the item with this index or random id, or None."""
    with reading(engine) as session:
        which = (
            LocationTable.item_index == int(item)
            if item.isascii() and item.isdecimal() and len(item) < 19
            else LocationTable.item_id == item
        )
        return session.scalar(
            sa.select(LocationTable).where(LocationTable.run_id == run_id, which)
        )


def iterate_locations(
    engine: sa.Engine, run_id: str, *, chunk: int = 2000
) -> Iterator[LocationTable]:
    """Yield the whole manifest in order, a chunk in memory at a time."""
    first = 0
    while rows := read_locations(engine, run_id, first_item=first, item_count=chunk):
        yield from rows
        first += chunk


def iterate_groups(
    engine: sa.Engine, run_id: str, *, chunk: int = 2000
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (item, its group values or their tokens) of the whole manifest, in order.

    About a chunk is in memory at a time.
    """
    after = -1
    while True:
        with reading(engine) as session:
            rows = session.execute(
                sa.select(LocationTable.item_index, LocationTable.groups)
                .where(LocationTable.run_id == run_id, LocationTable.item_index > after)
                .order_by(LocationTable.item_index)
                .limit(chunk)
            ).all()
        for row in rows:
            after = row.item_index
            yield after, row.groups or {}
        if len(rows) < chunk:
            return

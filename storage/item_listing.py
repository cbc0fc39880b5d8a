# SPDX-License-Identifier: Apache-2.0
"""A run's items with where each one is, as people and tables ask for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import reading
from storage.states import ItemStatus
from storage.tables import ItemTable, LocationTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedItem:
    """One explanation of one item, or an item that has none yet.

    Attributes:
        item_index: Its place in the manifest.
        item_id: Its random name.
        uri: Where it is; personal data where the run names a subject column.
        row: How it came out; None while its shard is not done.
    """

    item_index: int
    item_id: str
    uri: str
    row: ItemTable | None


def iterate_listed(
    engine: sa.Engine, run_id: str, *, failed: bool = False, chunk: int = 2000
) -> Iterator[ListedItem]:
    """Yield a run's items in manifest order, about a chunk in memory at a time.

    Args:
        engine: The database.
        run_id: The run.
        failed: Only those that failed.
        chunk: Items in memory at a time.
    """
    place = ItemTable.item_index if failed else LocationTable.item_index
    wanted = [ItemTable.status == ItemStatus.FAILED] if failed else []
    owner = ItemTable.run_id if failed else LocationTable.run_id
    after = -1
    while True:
        with reading(engine) as session:
            places = (
                sa.select(place)
                .where(owner == run_id, place > after, *wanted)
                .order_by(place)
                .limit(chunk)
                .subquery()
            )
            last = session.scalar(sa.select(sa.func.max(places.c.item_index)))
            if last is None:
                return
            found = _read(session, run_id, after, last, wanted)
        yield from sorted(found, key=_order)
        after = last


def _read(
    session: Session,
    run_id: str,
    after: int,
    last: int,
    wanted: Sequence[sa.ColumnElement[bool]],
) -> list[ListedItem]:
    same_item = sa.and_(
        ItemTable.run_id == LocationTable.run_id,
        ItemTable.item_index == LocationTable.item_index,
    )
    rows = session.execute(
        sa.select(
            LocationTable.item_index,
            LocationTable.item_id,
            LocationTable.uri,
            ItemTable,
        )
        .outerjoin(ItemTable, same_item)
        .where(
            LocationTable.run_id == run_id,
            LocationTable.item_index > after,
            LocationTable.item_index <= last,
            *wanted,
        )
    )
    return [
        ListedItem(item_index=index, item_id=item_id, uri=uri, row=row)
        for index, item_id, uri, row in rows
    ]


def _order(item: ListedItem) -> tuple[int, str, str, str]:
    """As `storage.items` orders the rows: by code points, whatever the database."""
    row = item.row
    if row is None:
        return item.item_index, "", "", ""
    return item.item_index, row.method, row.target_rule, row.policy


#: Items with one file name that a message names.
NAMED = 5


def find_by_name(engine: sa.Engine, run_id: str, name: str) -> list[LocationTable]:
    """Return the first items whose URI is the name or ends in it after a slash."""
    uri = LocationTable.uri
    # Not LIKE, which SQLite compares without regard to case.
    ending = sa.func.substr(uri, sa.func.length(uri) - len(name))
    with reading(engine) as session:
        rows = session.scalars(
            sa.select(LocationTable)
            .where(
                LocationTable.run_id == run_id,
                sa.or_(uri == name, ending == f"/{name}"),
            )
            .order_by(LocationTable.item_index)
            .limit(NAMED + 1)
        )
        return list(rows)

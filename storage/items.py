# SPDX-License-Identifier: Apache-2.0
"""The rows of explained items, read back in manifest order."""

from collections.abc import Iterator

import sqlalchemy as sa

from storage.engine import reading
from storage.tables import ItemTable


def iterate_items(
    engine: sa.Engine, run_id: str, *, chunk: int = 2000
) -> Iterator[ItemTable]:
    """Yield a run's rows in manifest order, about a chunk in memory at a time.

    The rows of one item come in the order of method, target rule and policy, compared
    by code points here: a database would compare them by its locale, and the order is
    part of the result digest.
    """
    after = -1
    while True:
        with reading(engine) as session:
            places = (
                sa.select(ItemTable.item_index)
                .where(ItemTable.run_id == run_id, ItemTable.item_index > after)
                .order_by(ItemTable.item_index)
                .limit(chunk)
                .subquery()
            )
            last = session.scalar(sa.select(sa.func.max(places.c.item_index)))
            if last is None:
                return
            rows = session.scalars(
                sa.select(ItemTable).where(
                    ItemTable.run_id == run_id,
                    ItemTable.item_index > after,
                    ItemTable.item_index <= last,
                )
            ).all()
        yield from sorted(rows, key=item_order)
        after = last


def find_items(engine: sa.Engine, run_id: str, item_index: int) -> list[ItemTable]:
    """Return every row of one item (one for each method, target and policy)."""
    with reading(engine) as session:
        rows = session.scalars(
            sa.select(ItemTable).where(
                ItemTable.run_id == run_id, ItemTable.item_index == item_index
            )
        ).all()
    return sorted(rows, key=item_order)


def items_between(
    engine: sa.Engine, run_id: str, first_item: int, item_count: int
) -> list[ItemTable]:
    """Return the rows of a slice of a run's manifest, in order."""
    with reading(engine) as session:
        rows = session.scalars(
            sa.select(ItemTable).where(
                ItemTable.run_id == run_id,
                ItemTable.item_index >= first_item,
                ItemTable.item_index < first_item + item_count,
            )
        ).all()
    return sorted(rows, key=item_order)


def item_order(row: ItemTable) -> tuple[int, str, str, str]:
    """Return what a run's rows are ordered by."""
    return row.item_index, row.method, row.target_rule, row.policy

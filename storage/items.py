# SPDX-License-Identifier: Apache-2.0
"""The rows of explained items, read back in manifest order."""

from collections.abc import Iterator

import sqlalchemy as sa

from storage.engine import reading
from storage.tables import ItemTable


def iterate_items(
    engine: sa.Engine, run_id: str, *, chunk: int = 2000
) -> Iterator[ItemTable]:
    """Yield a run's rows in manifest order, a chunk in memory at a time."""
    key = (
        ItemTable.item_index,
        ItemTable.method,
        ItemTable.target_rule,
        ItemTable.policy,
    )
    after: tuple[int, str, str, str] | None = None
    while True:
        query = sa.select(ItemTable).where(ItemTable.run_id == run_id)
        if after is not None:
            query = query.where(sa.tuple_(*key) > after)
        with reading(engine) as session:
            rows = list(session.scalars(query.order_by(*key).limit(chunk)))
        if not rows:
            return
        yield from rows
        last = rows[-1]
        after = (last.item_index, last.method, last.target_rule, last.policy)


def find_items(engine: sa.Engine, run_id: str, item_index: int) -> list[ItemTable]:
    """Return every row of one item (one for each method, target and policy)."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(ItemTable).where(
                    ItemTable.run_id == run_id, ItemTable.item_index == item_index
                )
            )
        )

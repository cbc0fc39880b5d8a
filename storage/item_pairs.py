# SPDX-License-Identifier: Apache-2.0
"""The figures of one run's items, and of the items that two runs have in common."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from storage.engine import reading
from storage.tables import ItemTable, LocationTable

#: Rows in memory at a time.
CHUNK = 2000


def iterate_figures(engine: sa.Engine, run_id: str) -> Iterator[Sequence[Any]]:
    """Yield chunks of a run's rows in manifest order.

    Rows have `status, predicted, score, metrics`.
    """
    query = (
        sa.select(
            ItemTable.status, ItemTable.predicted, ItemTable.score, ItemTable.metrics
        )
        .where(ItemTable.run_id == run_id)
        .order_by(ItemTable.item_index)
    )
    yield from _chunks(engine, query)


def iterate_pairs(
    engine: sa.Engine, before: str, after: str
) -> Iterator[Sequence[Any]]:
    """Yield chunks of the items that both runs have, in the later one's order.

    Items are the same where their URIs are; those that repeat an earlier one of their
    run are left out. Rows have `status, predicted, score, metrics, input_sha256`, with
    the suffix `_0` for the run before and `_1` for the other.
    """
    places = aliased(LocationTable), aliased(LocationTable)
    items = aliased(ItemTable), aliased(ItemTable)
    columns = [
        getattr(items[side], name).label(f"{name}_{side}")
        for side in (0, 1)
        for name in ("status", "predicted", "score", "metrics", "input_sha256")
    ]
    query = (
        sa.select(*columns)
        .select_from(places[1])
        .join(
            places[0],
            sa.and_(places[0].run_id == before, places[0].uri == places[1].uri),
        )
        .join(items[0], _same(items[0], places[0]))
        .join(items[1], _same(items[1], places[1]))
        .where(
            places[1].run_id == after,
            places[0].duplicate_of.is_(None),
            places[1].duplicate_of.is_(None),
        )
        .order_by(places[1].item_index)
    )
    yield from _chunks(engine, query)


def _same(item: type[ItemTable], place: type[LocationTable]) -> Any:
    return sa.and_(item.run_id == place.run_id, item.item_index == place.item_index)


def distinct_items(engine: sa.Engine, run_id: str) -> int:
    """Return how many items of the run repeat no earlier one."""
    with reading(engine) as session:
        count = session.scalar(
            sa.select(sa.func.count()).where(
                LocationTable.run_id == run_id, LocationTable.duplicate_of.is_(None)
            )
        )
    return int(count or 0)


def common_items(engine: sa.Engine, before: str, after: str) -> int:
    """Return how many items both runs list, whether or not they were explained."""
    places = aliased(LocationTable), aliased(LocationTable)
    with reading(engine) as session:
        count = session.scalar(
            sa.select(sa.func.count())
            .select_from(places[1])
            .join(
                places[0],
                sa.and_(places[0].run_id == before, places[0].uri == places[1].uri),
            )
            .where(
                places[1].run_id == after,
                places[0].duplicate_of.is_(None),
                places[1].duplicate_of.is_(None),
            )
        )
    return int(count or 0)


def _chunks(engine: sa.Engine, query: sa.Select[Any]) -> Iterator[Sequence[Any]]:
    with reading(engine) as session:
        yield from session.execute(
            query.execution_options(yield_per=CHUNK)
        ).partitions()

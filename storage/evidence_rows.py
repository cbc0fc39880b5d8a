# SPDX-License-Identifier: Apache-2.0
"""A run's rows as `affidavit verify` reads them: with the cells that hold nonsense.

Each comes as (row, bad cells). The rows have the attributes of the row classes, whose
types they promise, because bad cells are replaced; see `storage.raw`.
"""

from collections.abc import Iterator
from typing import TypeVar

import sqlalchemy as sa

from storage.engine import reading
from storage.items import item_order
from storage.raw import BadCell, checked_rows, raw_columns
from storage.tables import (
    AuditTable,
    ItemTable,
    LocationTable,
    RunTable,
    ShardTable,
)

Row = TypeVar("Row", ItemTable, LocationTable)

#: Items of the manifest that are in memory at a time.
CHUNK = 2000


def stored_run(engine: sa.Engine, run_id: str) -> tuple[RunTable, list[BadCell]]:
    """Return the run's row; the run is there."""
    query = sa.select(*raw_columns(RunTable)).where(RunTable.id == run_id)
    with reading(engine) as session:
        return next(checked_rows(RunTable, session.execute(query)))


def stored_audit(
    engine: sa.Engine, audit_id: str
) -> tuple[AuditTable, list[BadCell]] | None:
    """Return the audit's row, None where there is none."""
    query = sa.select(*raw_columns(AuditTable)).where(AuditTable.id == audit_id)
    with reading(engine) as session:
        return next(checked_rows(AuditTable, session.execute(query)), None)


def stored_shards(
    engine: sa.Engine, run_id: str
) -> list[tuple[ShardTable, list[BadCell]]]:
    """Return the rows of a run's shards, in order."""
    query = (
        sa.select(*raw_columns(ShardTable))
        .where(ShardTable.run_id == run_id)
        .order_by(ShardTable.shard_index)
    )
    with reading(engine) as session:
        return list(checked_rows(ShardTable, session.execute(query)))


def stored_locations(
    engine: sa.Engine, run_id: str
) -> Iterator[tuple[LocationTable, list[BadCell]]]:
    """Yield the rows of a run's manifest, in order."""
    yield from _by_item(engine, LocationTable, run_id)


def stored_items(
    engine: sa.Engine, run_id: str
) -> Iterator[tuple[ItemTable, list[BadCell]]]:
    """Yield the rows of a run's items, in the order of the result digest."""
    yield from _by_item(engine, ItemTable, run_id)


def _by_item(
    engine: sa.Engine, table: type[Row], run_id: str
) -> Iterator[tuple[Row, list[BadCell]]]:
    after: object = -1
    while True:
        newer = sa.and_(table.run_id == run_id, table.item_index > after)
        with reading(engine) as session:
            places = (
                sa.select(table.item_index)
                .where(newer)
                .order_by(table.item_index)
                .limit(CHUNK)
                .subquery()
            )
            last = session.scalar(sa.select(sa.func.max(places.c.item_index)))
            if last is None:
                return
            query = (
                sa.select(*raw_columns(table))
                .where(newer, table.item_index <= last)
                .order_by(table.item_index)
            )
            rows = list(checked_rows(table, session.execute(query)))
        if table is ItemTable:
            rows.sort(key=lambda found: item_order(found[0]))
        yield from rows
        after = last

# SPDX-License-Identifier: Apache-2.0
"""The manifest rows of a run's failed items, and how many failed for which reason."""

from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.states import ItemStatus
from storage.tables import ItemTable, LocationTable

#: Rows in memory at a time.
CHUNK = 2000


def failed_by_reason(session: Session, run_id: str) -> dict[str, int]:
    """Return how many of the run's items failed, by reason."""
    rows = session.execute(
        sa.select(ItemTable.reason, sa.func.count().label("items"))
        .where(ItemTable.run_id == run_id, ItemTable.status == ItemStatus.FAILED)
        .group_by(ItemTable.reason)
    )
    return {str(row.reason): int(row.items) for row in rows}


def iterate_failed(
    session: Session, run_id: str, *, without: Collection[str]
) -> Iterator[Sequence[LocationTable]]:
    """Yield chunks of the failed items' manifest rows, in order.

    Each chunk is a query of its own, so that the caller may write in between.

    Args:
        session: The caller's transaction.
        run_id: The run.
        without: Reasons of items that are left out.
    """
    failed = (
        sa.select(ItemTable.item_index)
        .where(
            ItemTable.run_id == LocationTable.run_id,
            ItemTable.item_index == LocationTable.item_index,
            ItemTable.status == ItemStatus.FAILED,
            ItemTable.reason.not_in(without),
        )
        .exists()
    )
    last = -1
    while True:
        rows = session.scalars(
            sa.select(LocationTable)
            .where(
                LocationTable.run_id == run_id, LocationTable.item_index > last, failed
            )
            .order_by(LocationTable.item_index)
            .limit(CHUNK)
        ).all()
        if not rows:
            return
        last = rows[-1].item_index
        yield rows

# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: the order in which the runs of a queue get workers.

Runs of a higher priority go first. Among equals it is the run with the fewest shards
under way, at work or hinted at, then the oldest, so that a small run does not wait for
a large one. Hints and claims without a hint go by the same order.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.states import OPEN_RUN_STATES, ShardState
from storage.tables import RunTable, ShardTable


class Turn(NamedTuple):
    """Whose turn it is: the smallest goes next."""

    rank: int
    in_flight: int
    created_at: float
    run_id: str


def turn_of(run: Any) -> Turn:
    """Return the turn of one of `open_runs`."""
    return Turn(-run.priority, run.in_flight, run.created_at, run.id)


def open_runs(
    session: Session, queue: str, hinted: sa.ColumnElement[bool]
) -> Sequence[Any]:
    """Return the queue's open runs with how many of their shards are under way.

    Rows have `id, priority, created_at, versions, hinted, in_flight`.

    Args:
        session: The caller's transaction.
        queue: Whose workers are to be given work.
        hinted: Which pending shards are taken for hinted at.
    """
    is_hinted = sa.and_(ShardTable.state == ShardState.PENDING, hinted)
    is_running = ShardTable.state == ShardState.RUNNING

    def count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.sum(sa.case((condition, 1), else_=0))

    return session.execute(
        sa.select(
            RunTable.id,
            RunTable.priority,
            RunTable.created_at,
            RunTable.plan["versions"].label("versions"),
            count(is_hinted).label("hinted"),
            count(sa.or_(is_hinted, is_running)).label("in_flight"),
        )
        .join(ShardTable, ShardTable.run_id == RunTable.id)
        .where(
            RunTable.state.in_(OPEN_RUN_STATES),
            RunTable.queue == queue,
            ShardTable.state.in_([ShardState.PENDING, ShardState.RUNNING]),
        )
        .group_by(RunTable.id, RunTable.priority, RunTable.created_at)
    ).all()

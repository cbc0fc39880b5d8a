# SPDX-License-Identifier: Apache-2.0
"""Looks at runs under way: which are open, what went wrong, what software they need."""

from dataclasses import dataclass

import sqlalchemy as sa

from storage.engine import reading
from storage.states import OPEN_RUN_STATES, ShardState
from storage.tables import RunTable, ShardTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardProblem:
    """A shard whose attempts ended badly."""

    shard_index: int
    state: str
    error: str | None
    attempt: int
    max_attempts: int
    deaths: int


def shard_problems(engine: sa.Engine, run_id: str, *, limit: int) -> list[ShardProblem]:
    """Return the shards that went wrong, dead ones first, then the latest."""
    bad = sa.or_(
        ShardTable.state == ShardState.DEAD,
        ShardTable.error.is_not(None),
        ShardTable.deaths > 0,
    )
    with reading(engine) as session:
        rows = session.scalars(
            sa.select(ShardTable)
            .where(ShardTable.run_id == run_id, bad)
            .order_by(
                sa.case((ShardTable.state == ShardState.DEAD, 0), else_=1),
                sa.func.coalesce(ShardTable.started_at, 0.0).desc(),
            )
            .limit(limit)
        ).all()
    return [
        ShardProblem(
            shard_index=row.shard_index,
            state=row.state,
            error=row.error,
            attempt=row.attempt,
            max_attempts=row.max_attempts,
            deaths=row.deaths,
        )
        for row in rows
    ]


def open_runs(engine: sa.Engine) -> list[RunTable]:
    """Return the runs whose shards may be claimed, the oldest first."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(RunTable)
                .where(RunTable.state.in_(OPEN_RUN_STATES))
                .order_by(RunTable.created_at)
            )
        )


def planned_software(engine: sa.Engine, shard_id: int) -> dict[str, str]:
    """Return the versions in the plan of a shard's run, none without a shard."""
    with reading(engine) as session:
        found = session.scalar(
            sa.select(RunTable.plan["versions"])
            .join(ShardTable, ShardTable.run_id == RunTable.id)
            .where(ShardTable.id == shard_id)
        )
    return dict(found or {})

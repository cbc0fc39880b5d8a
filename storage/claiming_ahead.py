# SPDX-License-Identifier: Apache-2.0
"""Claims on shards that nobody was sent to, made while another shard is in work.

Only shards that were never attempted, of runs that allow more than one attempt: a
worker that is killed loses what it had claimed ahead, and that must not end a shard.
"""

import sqlalchemy as sa

from storage.engine import transaction
from storage.leases import Claim, claim_candidate, claimable
from storage.tables import RunTable, ShardTable


def claim_ahead(
    engine: sa.Engine, queue: str, *, worker: str, lease_s: float
) -> Claim | None:
    """Return the claim on the queue's best shard that no hint is out for, or None."""
    candidate = (
        sa.select(ShardTable)
        .join(RunTable)
        .where(
            RunTable.queue == queue, ShardTable.dispatched_at.is_(None), _untouched()
        )
        .order_by(RunTable.priority.desc(), ShardTable.shard_index, RunTable.created_at)
    )
    return _claim(engine, candidate, worker, lease_s)


def claim_ahead_in_run(
    engine: sa.Engine, run_id: str, *, worker: str, lease_s: float
) -> Claim | None:
    """Return the claim on the run's first shard that was never attempted, or None."""
    candidate = (
        sa.select(ShardTable)
        .where(ShardTable.run_id == run_id, _untouched())
        .order_by(ShardTable.shard_index)
    )
    return _claim(engine, candidate, worker, lease_s)


def _untouched() -> sa.ColumnElement[bool]:
    return sa.and_(ShardTable.attempt == 0, ShardTable.max_attempts > 1, claimable())


def _claim(
    engine: sa.Engine, candidate: sa.Select[ShardTable], worker: str, lease_s: float
) -> Claim | None:
    with transaction(engine) as session:
        locked = candidate.limit(1).with_for_update(of=ShardTable, skip_locked=True)
        return claim_candidate(session, locked, worker, lease_s)

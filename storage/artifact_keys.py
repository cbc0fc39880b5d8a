# SPDX-License-Identifier: Apache-2.0
"""Which objects of the store shards name, or may still come to name."""

import sqlalchemy as sa

from storage.engine import reading
from storage.states import ShardState
from storage.tables import RunTable, ShardTable


def known_runs(engine: sa.Engine) -> list[str]:
    """Return the ids of all runs, the oldest first."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(RunTable.id).order_by(RunTable.created_at, RunTable.id)
            )
        )


def is_wanted(
    engine: sa.Engine, run_id: str, shard_index: int, *, attempt: int, key: str
) -> bool:
    """Return whether the shard names the attempt's object, or may come to that.

    An object of a shard that is not known is nobody's to judge, hence wanted.
    """
    with reading(engine) as session:
        row = session.execute(
            sa.select(
                ShardTable.object_key, ShardTable.attempt, ShardTable.state
            ).where(ShardTable.run_id == run_id, ShardTable.shard_index == shard_index)
        ).one_or_none()
    if row is None or key == row.object_key:
        return True
    return bool(row.state == ShardState.RUNNING and attempt >= row.attempt)

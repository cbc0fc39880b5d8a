# SPDX-License-Identifier: Apache-2.0
"""From shard rows to hints: a bounded window of pending shards is known to Redis.

The window gives back-pressure and makes "hinted a while ago, still unclaimed" a true
sign of a lost message.
"""

from collections.abc import Callable

import sqlalchemy as sa
from kombu.exceptions import OperationalError

from pipeline.errors import InfrastructureError
from pipeline.services import Services
from storage.engine import epoch_now, transaction
from storage.states import OPEN_RUN_STATES, ShardState
from storage.tables import RunTable, ShardTable
from workers.app import COMPUTE_QUEUES

#: Sends one hint: shard id, queue.
Publish = Callable[[int, str], None]


def dispatch(services: Services, publish: Publish) -> int:
    """Return how many hints were sent to fill the window.

    The row is marked before the hint is sent: a hint that is lost in between is sent
    again when `hint_timeout_s` has passed.
    """
    chosen = _choose(services)
    try:
        for shard_id, queue in chosen:
            publish(shard_id, queue)
    except (OperationalError, OSError) as exc:
        raise InfrastructureError(
            "The broker broke off; hints go out again when it is back."
        ) from exc
    return len(chosen)


def _choose(services: Services) -> list[tuple[int, str]]:
    settings = services.settings
    waiting = sa.and_(
        ShardTable.run_id == RunTable.id,
        ShardTable.state == ShardState.PENDING,
        RunTable.state.in_(OPEN_RUN_STATES),
        RunTable.queue.in_(COMPUTE_QUEUES),
    )
    fresh = ShardTable.dispatched_at > epoch_now() - settings.hint_timeout_s
    due = sa.and_(
        sa.or_(ShardTable.dispatched_at.is_(None), ~fresh),
        sa.or_(ShardTable.not_before.is_(None), ShardTable.not_before <= epoch_now()),
    )
    with transaction(services.engine) as session:
        hinted = session.scalar(
            sa.select(sa.func.count())
            .select_from(ShardTable)
            .join(RunTable)
            .where(waiting, fresh)
        )
        room = settings.dispatch_window - (hinted or 0)
        if room <= 0:
            return []
        rows = session.execute(
            sa.select(ShardTable.id, RunTable.queue)
            .join(RunTable)
            .where(waiting, due)
            # Taking each run's next shard in turn shares the workers between runs.
            .order_by(ShardTable.shard_index, RunTable.created_at)
            .limit(room)
            .with_for_update(of=ShardTable, skip_locked=True)
        ).all()
        if rows:
            session.execute(
                sa.update(ShardTable)
                .where(ShardTable.id.in_([row.id for row in rows]))
                .values(dispatched_at=epoch_now())
                .execution_options(synchronize_session=False)
            )
    return [(row.id, row.queue) for row in rows]

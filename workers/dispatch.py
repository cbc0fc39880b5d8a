# SPDX-License-Identifier: Apache-2.0
"""From shard rows to hints: a bounded window of pending shards is known to Redis.

The window gives back-pressure and makes "hinted a while ago, still unclaimed" a true
sign of a lost message.
"""

from collections.abc import Callable

import sqlalchemy as sa
import structlog
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from pipeline.errors import InfrastructureError
from pipeline.services import Services
from storage.engine import epoch_now, transaction
from storage.errors import StorageError
from storage.locks import Lock, hold
from storage.states import OPEN_RUN_STATES, ShardState
from storage.tables import RunTable, ShardTable
from workers.app import COMPUTE_QUEUES

log = structlog.get_logger()

#: What sending to a broker raises that is down, full or read-only.
BROKER_FAILURES = (KombuError, RedisError, OSError)

#: Sends one hint: shard id, queue.
Publish = Callable[[int, str], None]


def dispatch(services: Services, publish: Publish) -> int:
    """Return how many hints were sent to fill the window.

    The row is marked before the hint is sent: a hint that is lost in between is sent
    again when `hint_timeout_s` has passed.

    Raises:
        InfrastructureError: the broker does not take hints.
    """
    chosen = _choose(services)
    for sent, (shard_id, queue) in enumerate(chosen):
        try:
            publish(shard_id, queue)
        except BROKER_FAILURES as exc:
            _unmark(services, [shard_id for shard_id, _queue in chosen[sent:]])
            raise InfrastructureError(
                "The broker takes no hints; they go out when it is back, check "
                "AFFIDAVIT_BROKER_URL and that Redis is running and has memory left."
            ) from exc
    return len(chosen)


def send_hints(services: Services, publish: Publish) -> None:
    """The window of hints is full, or the log says why not."""
    try:
        sent = dispatch(services, publish)
    except (InfrastructureError, StorageError) as exc:
        log.warning("hints_not_sent", error=type(exc).__name__)
    else:
        log.debug("hints_sent", count=sent)


def _unmark(services: Services, shard_ids: list[int]) -> None:
    """The next round hints at them again, without waiting for the timeout."""
    with transaction(services.engine) as session:
        session.execute(
            sa.update(ShardTable)
            .where(ShardTable.id.in_(shard_ids), ShardTable.state == ShardState.PENDING)
            .values(dispatched_at=None)
            .execution_options(synchronize_session=False)
        )


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
        # Two that count at once would each find the whole window free.
        hold(session, Lock.DISPATCH)
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

# SPDX-License-Identifier: Apache-2.0
"""From shard rows to hints: a bounded window of pending shards is known to Redis.

Each queue has a window of its own, so that one whose workers are away or slow keeps no
other waiting; a queue without live workers gets no hints at all. The window gives
back-pressure. A hint that stays unclaimed was lost or waits behind long work, and
nobody can tell which: it goes out again, each time after twice as long, so that what
waits in Redis stays small.
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa
import structlog
from kombu.exceptions import KombuError
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from pipeline.errors import InfrastructureError
from pipeline.services import Services
from pipeline.settings import Settings
from pipeline.software import other_software
from storage.engine import epoch_now, transaction
from storage.errors import StorageError
from storage.locks import Lock, hold
from storage.states import ShardState
from storage.tables import ShardTable
from storage.turns import open_runs, turn_of
from storage.worker_registry import live_workers
from workers.app import COMPUTE_QUEUES

log = structlog.get_logger()

#: What sending to a broker raises that is down, full or read-only.
BROKER_FAILURES = (KombuError, RedisError, OSError)

#: With the usual timeout of a minute, a hint goes out at least every hour or so.
MOST_DOUBLINGS = 6

#: Sends one hint: shard id, queue.
Publish = Callable[[int, str], None]


def dispatch(services: Services, publish: Publish) -> int:
    """Return how many hints were sent to fill the windows of queues with workers.

    The row is marked before the hint is sent: a hint that is lost in between is sent
    again when `hint_timeout_s` has passed.

    Raises:
        InfrastructureError: the broker does not take hints.
    """
    chosen = _choose(services)
    for sent, (shard_id, queue) in enumerate(chosen):
        try:
            publish(shard_id, queue)
            services.telemetry.hint("sent")
        except BROKER_FAILURES as exc:
            unmark(services, [shard_id for shard_id, _queue in chosen[sent:]])
            raise InfrastructureError(
                "The broker takes no hints; they go out when it is back, check "
                "AFFIDAVIT_BROKER_URL and that Redis is running and has memory left."
            ) from exc
    return len(chosen)


def send_hints(services: Services, publish: Publish) -> None:
    """The windows of hints are full, or the log says why not."""
    try:
        sent = dispatch(services, publish)
    except (InfrastructureError, StorageError) as exc:
        log.warning("hints_not_sent", error=type(exc).__name__)
    else:
        log.debug("hints_sent", count=sent)


def unmark(services: Services, shard_ids: list[int]) -> None:
    """The next round hints at them again, without waiting for the timeout."""
    with transaction(services.engine) as session:
        session.execute(
            sa.update(ShardTable)
            .where(ShardTable.id.in_(shard_ids), ShardTable.state == ShardState.PENDING)
            .values(dispatched_at=None, hints=ShardTable.hints - 1)
            .execution_options(synchronize_session=False)
        )


def _choose(services: Services) -> list[tuple[int, str]]:
    """Return what is hinted at next, marked as hinted: shard ids with their queues."""
    alive: dict[str, list[Mapping[str, str]]] = {}
    for worker in live_workers(services.engine):
        alive.setdefault(worker.queue, []).append(worker.software or {})
    queues = [queue for queue in COMPUTE_QUEUES if queue in alive]
    if not queues:
        return []
    with transaction(services.engine) as session:
        # Two that count at once would each find the whole window free.
        hold(session, Lock.DISPATCH)
        chosen = [
            (shard_id, queue)
            for queue in queues
            for shard_id in _next_of(session, services.settings, queue, alive[queue])
        ]
        if chosen:
            session.execute(
                sa.update(ShardTable)
                .where(ShardTable.id.in_([shard_id for shard_id, _queue in chosen]))
                .values(dispatched_at=epoch_now(), hints=ShardTable.hints + 1)
                .execution_options(synchronize_session=False)
            )
    return chosen


def _next_of(
    session: Session,
    settings: Settings,
    queue: str,
    software: Sequence[Mapping[str, str]],
) -> list[int]:
    """Return the shards that fill the queue's window, locked.

    A run that all of the queue's workers would refuse for their software waits.

    Each shard chosen is under way when the next turn is given.
    """
    hinted = ShardTable.dispatched_at > epoch_now() - _patience(settings)
    runs = open_runs(session, queue, hinted)
    room = settings.dispatch_window - sum(run.hinted for run in runs)
    if room <= 0:
        return []
    # More runs than places cannot get one.
    turns = heapq.nsmallest(
        room,
        (
            turn_of(run)
            for run in runs
            if not all(other_software(run.versions or {}, here) for here in software)
        ),
    )
    waiting = {
        turn.run_id: deque(_due(session, turn.run_id, hinted, room)) for turn in turns
    }
    chosen: list[int] = []
    while turns and len(chosen) < room:
        turn = heapq.heappop(turns)
        if waiting[turn.run_id]:
            chosen.append(waiting[turn.run_id].popleft())
            heapq.heappush(turns, turn._replace(in_flight=turn.in_flight + 1))
    return chosen


def _due(
    session: Session, run_id: str, hinted: sa.ColumnElement[bool], most: int
) -> Sequence[int]:
    """Return the run's next shards to hint at, locked."""
    return session.scalars(
        sa.select(ShardTable.id)
        .where(
            ShardTable.run_id == run_id,
            ShardTable.state == ShardState.PENDING,
            sa.or_(ShardTable.dispatched_at.is_(None), ~hinted),
            sa.or_(
                ShardTable.not_before.is_(None), ShardTable.not_before <= epoch_now()
            ),
        )
        .order_by(ShardTable.shard_index)
        .limit(most)
        .with_for_update(skip_locked=True)
    ).all()


def _patience(settings: Settings) -> sa.ColumnElement[float]:
    """Return the seconds after which a shard's latest hint is taken for lost."""
    factors = {hints: 2.0 ** (hints - 1) for hints in range(1, MOST_DOUBLINGS + 1)}
    factor = sa.case(factors, value=ShardTable.hints, else_=2.0**MOST_DOUBLINGS)
    return factor * settings.hint_timeout_s

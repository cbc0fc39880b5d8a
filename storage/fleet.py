# SPDX-License-Identifier: Apache-2.0
"""How the whole installation fares, in a few numbers: what a monitor asks for.

Queues, states and kinds of device only, never a run, a file or a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import epoch_now, reading
from storage.ledger_signing import unsigned_for
from storage.states import OPEN_RUN_STATES, RunState, ShardState
from storage.tables import RunTable, ShardTable
from storage.worker_registry import live_workers

#: Dead shards of runs that ended longer ago are nobody's alarm any more.
DEAD_COUNT_FOR_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """How the shards of one queue's open runs fare.

    Attributes:
        shards: Count by state; dead ones also of runs that ended within a day.
        oldest_pending_s: How long the shard waits that waits longest of those that
            may be claimed; None where none waits.
        idle_s: How long no shard of the queue was claimed although one waits; None
            where none waits.
        runs: Open runs.
    """

    shards: Mapping[str, int] = field(default_factory=dict)
    oldest_pending_s: float | None = None
    idle_s: float | None = None
    runs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFigures:
    """How everything fares at one moment.

    Attributes:
        queues: By the queue's name.
        runs: Runs by state.
        workers: Live workers by queue and device.
        unsigned_s: Age of the last checkpoint where entries are not under one, else
            0; infinite before the first.
        open_plans: Queue and versions in the plan of each open run.
        software: Queue and versions of each live worker.
    """

    queues: Mapping[str, QueueFigures]
    runs: Mapping[str, int]
    workers: Mapping[tuple[str, str], int]
    unsigned_s: float
    open_plans: tuple[tuple[str, Mapping[str, str]], ...] = ()
    software: tuple[tuple[str, Mapping[str, str]], ...] = ()


def fleet_figures(engine: sa.Engine) -> FleetFigures:
    """Return how the installation fares now.

    Raises:
        StorageError: the database does not answer.
    """
    workers = live_workers(engine)
    counted: dict[tuple[str, str], int] = {}
    for worker in workers:
        key = (worker.queue, worker.device)
        counted[key] = counted.get(key, 0) + 1
    unsigned = unsigned_for(engine)
    with reading(engine) as session:
        states = session.execute(
            sa.select(RunTable.state, sa.func.count()).group_by(RunTable.state)
        )
        runs = {state: int(count) for state, count in states}
        plans = session.execute(
            sa.select(RunTable.queue, RunTable.plan["versions"]).where(
                RunTable.state.in_(OPEN_RUN_STATES)
            )
        ).all()
        queues = _queues(session)
    return FleetFigures(
        queues=queues,
        runs=runs,
        workers=counted,
        unsigned_s=0.0 if unsigned is None else unsigned,
        open_plans=tuple((queue, versions or {}) for queue, versions in plans),
        software=tuple((w.queue, w.software or {}) for w in workers),
    )


def _queues(session: Session) -> dict[str, QueueFigures]:
    now = epoch_now()
    counts = _counts(session)
    waits = session.execute(
        sa.select(RunTable.queue, now - sa.func.min(_waits_since()))
        .select_from(ShardTable)
        .join(RunTable)
        .where(_may_be_claimed())
        .group_by(RunTable.queue)
    ).all()
    claims = session.execute(
        sa.select(RunTable.queue, now - sa.func.max(_last_move()))
        .select_from(ShardTable)
        .join(RunTable)
        .where(RunTable.state.in_(OPEN_RUN_STATES))
        .group_by(RunTable.queue)
    ).all()
    opened = session.execute(
        sa.select(RunTable.queue, sa.func.count())
        .where(RunTable.state.in_(OPEN_RUN_STATES))
        .group_by(RunTable.queue)
    ).all()
    waiting = {queue: max(0.0, float(age)) for queue, age in waits}
    idle = {queue: max(0.0, float(age)) for queue, age in claims}
    runs = {queue: int(count) for queue, count in opened}
    return {
        queue: QueueFigures(
            shards=counts.get(queue, {}),
            oldest_pending_s=waiting.get(queue),
            # Nobody claims before something waits, however long ago the last was.
            idle_s=min(idle[queue], waiting[queue]) if queue in waiting else None,
            runs=runs.get(queue, 0),
        )
        for queue in {*counts, *runs}
    }


def _counts(session: Session) -> dict[str, dict[str, int]]:
    is_open = RunTable.state.in_([*OPEN_RUN_STATES, RunState.FINALISING])
    ended_lately = sa.and_(
        ShardTable.state == ShardState.DEAD,
        RunTable.state == RunState.INCOMPLETE,
        RunTable.finished_at > epoch_now() - DEAD_COUNT_FOR_S,
    )
    rows = session.execute(
        sa.select(RunTable.queue, ShardTable.state, sa.func.count())
        .select_from(ShardTable)
        .join(RunTable)
        .where(sa.or_(is_open, ended_lately))
        .group_by(RunTable.queue, ShardTable.state)
    )
    counts: dict[str, dict[str, int]] = {}
    for queue, state, count in rows:
        counts.setdefault(queue, {})[state] = int(count)
    return counts


def _may_be_claimed() -> sa.ColumnElement[bool]:
    return sa.and_(
        RunTable.state.in_(OPEN_RUN_STATES),
        ShardTable.state == ShardState.PENDING,
        sa.or_(ShardTable.not_before.is_(None), ShardTable.not_before <= epoch_now()),
    )


def _waits_since() -> sa.ColumnElement[float]:
    """Return since when a pending shard could be claimed."""
    return _later(
        _later(RunTable.created_at, sa.func.coalesce(ShardTable.not_before, 0.0)),
        sa.func.coalesce(ShardTable.started_at, 0.0),
    )


def _last_move() -> sa.ColumnElement[float]:
    """Return when something last happened to a shard."""
    return _later(
        _later(RunTable.created_at, sa.func.coalesce(ShardTable.started_at, 0.0)),
        sa.func.coalesce(ShardTable.finished_at, 0.0),
    )


def _later(
    first: sa.ColumnElement[float] | sa.orm.InstrumentedAttribute[float],
    second: sa.ColumnElement[float],
) -> sa.ColumnElement[float]:
    """Return the later of two moments; the databases name the function differently."""
    return sa.case((first >= second, first), else_=second)

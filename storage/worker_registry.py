# SPDX-License-Identifier: Apache-2.0
"""Which workers are alive, what each offers, and what it is doing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from storage.engine import epoch_now, reading, transaction
from storage.states import ShardState
from storage.tables import RunTable, ShardTable, WorkerTable

#: A worker unseen for this many seconds is taken for dead.
ALIVE_S = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a worker says of itself."""

    name: str
    queue: str
    device: str
    version: str
    roots: tuple[str, ...]
    actor: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    metrics_url: str | None = None
    clock_ahead_s: float | None = None


def announce(engine: sa.Engine, worker: Announcement) -> None:
    """The worker is known to be alive now."""
    # Loading a dialect takes as long as a look at a run, and few lookers insert.
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    values = {
        "queue": worker.queue,
        "device": worker.device,
        "version": worker.version,
        "roots": list(worker.roots),
        "actor": worker.actor,
        "software": dict(worker.software),
        "metrics_url": worker.metrics_url,
        "clock_ahead_s": worker.clock_ahead_s,
    }
    postgres = engine.dialect.name == "postgresql"
    insert = postgresql.insert if postgres else sqlite.insert
    with transaction(engine) as session:
        session.execute(
            insert(WorkerTable)
            .values(
                name=worker.name,
                started_at=epoch_now(),
                seen_at=epoch_now(),
                **values,
            )
            .on_conflict_do_update(
                index_elements=[WorkerTable.name],
                set_={
                    "seen_at": epoch_now(),
                    # A worker started anew under its old name is another one.
                    "started_at": sa.case(
                        (
                            WorkerTable.actor.is_not_distinct_from(worker.actor),
                            WorkerTable.started_at,
                        ),
                        else_=epoch_now(),
                    ),
                    **values,
                },
            )
        )


def withdraw(engine: sa.Engine, name: str) -> None:
    """The worker is known to have stopped."""
    with transaction(engine) as session:
        session.execute(sa.delete(WorkerTable).where(WorkerTable.name == name))


def live_workers(engine: sa.Engine) -> list[WorkerTable]:
    """Return the workers seen lately, by name."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(WorkerTable)
                .where(WorkerTable.seen_at > epoch_now() - ALIVE_S)
                .order_by(WorkerTable.name)
            )
        )


def forget_dead_workers(engine: sa.Engine) -> None:
    """Rows of workers unseen for an hour are gone."""
    with transaction(engine) as session:
        session.execute(
            sa.delete(WorkerTable).where(WorkerTable.seen_at < epoch_now() - 3600)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkInHand:
    """What a live worker is doing."""

    worker: WorkerTable
    #: Seconds since it announced itself, and since it started.
    seen_s: float
    up_s: float
    run_id: str | None = None
    shard_index: int | None = None
    #: Seconds since it claimed the shard.
    busy_s: float | None = None
    items: int | None = None
    items_through: int | None = None


def work_in_hand(engine: sa.Engine) -> list[WorkInHand]:
    """Return each live worker, by name, with the shard that it has longest in work."""
    now = epoch_now()
    query = (
        sa.select(WorkerTable, ShardTable, RunTable.plan, now.label("now"))
        .outerjoin(
            ShardTable,
            sa.and_(
                ShardTable.worker == WorkerTable.actor,
                ShardTable.state == ShardState.RUNNING,
                ShardTable.lease_until > now,
            ),
        )
        .outerjoin(RunTable, RunTable.id == ShardTable.run_id)
        .where(WorkerTable.seen_at > now - ALIVE_S)
        .order_by(WorkerTable.name, ShardTable.started_at)
    )
    found: dict[str, WorkInHand] = {}
    with reading(engine) as session:
        for worker, shard, plan, moment in session.execute(query):
            found.setdefault(worker.name, _in_hand(worker, shard, plan, moment))
    return list(found.values())


def _in_hand(
    worker: WorkerTable,
    shard: ShardTable | None,
    plan: Mapping[str, int],
    moment: float,
) -> WorkInHand:
    seen, up = moment - worker.seen_at, moment - worker.started_at
    if shard is None:
        return WorkInHand(worker=worker, seen_s=seen, up_s=up)
    return WorkInHand(
        worker=worker,
        seen_s=seen,
        up_s=up,
        run_id=shard.run_id,
        shard_index=shard.shard_index,
        busy_s=None if shard.started_at is None else moment - shard.started_at,
        items=shard.item_count,
        items_through=min(shard.item_count, shard.batches_done * plan["batch_size"]),
    )

# SPDX-License-Identifier: Apache-2.0
"""Which workers are alive and what device each offers."""

from dataclasses import dataclass

import sqlalchemy as sa

from storage.engine import epoch_now, reading, transaction
from storage.tables import WorkerTable

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


def announce(engine: sa.Engine, worker: Announcement) -> None:
    """The worker is known to be alive now."""
    # Loading a dialect takes as long as a look at a run, and few lookers insert.
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    values = {
        "queue": worker.queue,
        "device": worker.device,
        "version": worker.version,
        "roots": list(worker.roots),
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
                set_={"seen_at": epoch_now(), **values},
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

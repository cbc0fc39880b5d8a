# SPDX-License-Identifier: Apache-2.0
"""What earlier runs measured: the pace of like work, and batch sizes found for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import epoch_now, reading
from storage.states import ShardState
from storage.tables import BatchSizeTable, RunTable, ShardTable

#: Finished shards whose pace counts, the latest first.
MOST_SHARDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPace:
    """The pace of finished shards of like work."""

    items_per_s: float
    shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBatchSize:
    """The batch size that a search found.

    Attributes:
        batch_size: It.
        trials: Items a second by batch size, as text.
    """

    batch_size: int
    trials: dict[str, float]


def measured_pace(engine: sa.Engine, speed_key: str) -> MeasuredPace | None:
    """Return the median pace of the latest shards of runs with the key, or None."""
    with reading(engine) as session:
        rows = session.execute(
            sa.select(ShardTable.item_count, ShardTable.work_s)
            .join(RunTable)
            .where(
                RunTable.speed_key == speed_key,
                ShardTable.state == ShardState.DONE,
                ShardTable.work_s > 0,
            )
            .order_by(ShardTable.finished_at.desc())
            .limit(MOST_SHARDS)
        ).all()
    if not rows:
        return None
    paces = [row.item_count / row.work_s for row in rows]
    return MeasuredPace(items_per_s=median(paces), shards=len(paces))


def known_batch_size(
    engine: sa.Engine, work_key: str, *, device: str, device_name: str | None
) -> FoundBatchSize | None:
    """Return what a search for like work found last, or None.

    Args:
        engine: The database.
        work_key: What the work is.
        device: Kind of device.
        device_name: The very device; None takes any of the kind.
    """
    query = sa.select(BatchSizeTable).where(
        BatchSizeTable.work_key == work_key, BatchSizeTable.device == device
    )
    if device_name is not None:
        query = query.where(BatchSizeTable.device_name == device_name)
    with reading(engine) as session:
        row = session.scalar(query.order_by(BatchSizeTable.found_at.desc()).limit(1))
    if row is None:
        return None
    return FoundBatchSize(batch_size=row.batch_size, trials=dict(row.trials))


def remember_batch_size(
    session: Session,
    work_key: str,
    *,
    device: str,
    device_name: str,
    batch_size: int,
    trials: Mapping[str, float],
) -> None:
    """The next plan of like work on this device need not search."""
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415 - few need it

    is_postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if is_postgres else sqlite.insert
    found = {
        "device": device,
        "batch_size": batch_size,
        "trials": dict(trials),
        "found_at": epoch_now(),
    }
    session.execute(
        insert(BatchSizeTable)
        .values(work_key=work_key, device_name=device_name, **found)
        .on_conflict_do_update(
            index_elements=[BatchSizeTable.work_key, BatchSizeTable.device_name],
            set_=found,
        )
    )

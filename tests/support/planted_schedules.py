# SPDX-License-Identifier: Apache-2.0
"""Schedules and slots written straight into the tables."""

from typing import Any

import sqlalchemy as sa

from storage.engine import reading, transaction
from storage.schedules import add_schedule
from storage.tables import ScheduleSlotTable, ScheduleTable


def plant_schedule(engine: sa.Engine, name: str = "a", **columns: Any) -> str:
    """Return the id of an active schedule, hourly and never due by itself."""
    values = {
        "name": name,
        "spec_path": "/specs/a.yaml",
        "spec": {"audit": name},
        "spec_digest": "0" * 64,
        "weights_sha256": None,
        "cron": "0 * * * *",
        "timezone": "UTC",
        "catch_up": "latest",
        "incremental": False,
        "next_slot": 4e9,
    }
    return add_schedule(engine, values | columns, actor="user/tester").id


def schedule(engine: sa.Engine, schedule_id: str) -> ScheduleTable:
    """Return a schedule's row."""
    with reading(engine) as session:
        return session.get_one(ScheduleTable, schedule_id)


def slots(engine: sa.Engine, schedule_id: str) -> list[ScheduleSlotTable]:
    """Return the slots of a schedule, the oldest first."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(ScheduleSlotTable)
                .where(ScheduleSlotTable.schedule_id == schedule_id)
                .order_by(ScheduleSlotTable.slot)
            )
        )


def slots_in(engine: sa.Engine, schedule_id: str, state: str) -> list[float]:
    """Return the moments of the slots in that state, the oldest first."""
    return [row.slot for row in slots(engine, schedule_id) if row.state == state]


def set_slot(engine: sa.Engine, slot_id: int, **columns: Any) -> None:
    """The slot's columns have these values."""
    with transaction(engine) as session:
        session.execute(
            sa.update(ScheduleSlotTable)
            .where(ScheduleSlotTable.id == slot_id)
            .values(**columns)
        )


def set_schedule(engine: sa.Engine, schedule_id: str, **columns: Any) -> None:
    """The schedule's columns have these values."""
    with transaction(engine) as session:
        session.execute(
            sa.update(ScheduleTable)
            .where(ScheduleTable.id == schedule_id)
            .values(**columns)
        )

# SPDX-License-Identifier: Apache-2.0
"""Schedules as rows: added, found, paused, removed, and their slots brought about.

A slot is a moment at which a run is due. Its row is unique, so that doubled, late and
simultaneous ticks, and clocks that jump back, bring about one slot a moment.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.entries import Action
from storage.engine import epoch_now, reading, transaction
from storage.errors import StateConflictError, UnknownScheduleError
from storage.events import record
from storage.locks import Lock, hold
from storage.states import ScheduleState, SlotState
from storage.subjects import new_token
from storage.tables import ScheduleSlotTable, ScheduleTable


def add_schedule(
    engine: sa.Engine, values: dict[str, Any], *, actor: str
) -> ScheduleTable:
    """Return the new schedule, which is active and in the ledger.

    Raises:
        StateConflictError: the audit of that name has a schedule already.
    """
    schedule_id = new_token()[:12]
    with transaction(engine) as session:
        hold(session, Lock.AUDIT, f"schedule/{values['name']}")
        other = session.scalar(
            sa.select(ScheduleTable.id).where(
                ScheduleTable.name == values["name"], _kept()
            )
        )
        if other is not None:
            raise StateConflictError(
                f"The audit '{values['name']}' has the schedule {other} already; "
                f"remove it first: affidavit schedule remove {other}"
            )
        session.execute(
            sa.insert(ScheduleTable).values(
                id=schedule_id,
                state=ScheduleState.ACTIVE,
                missed=0,
                created_at=epoch_now(),
                **values,
            )
        )
        record(
            session,
            Action.SCHEDULE_ADDED,
            f"schedule/{schedule_id}",
            actor=actor,
            digest=values["spec_digest"],
            details={
                name: values[name]
                for name in (
                    "cron",
                    "timezone",
                    "catch_up",
                    "incremental",
                    "weights_sha256",
                )
            },
        )
        return session.get_one(ScheduleTable, schedule_id)


def _kept() -> sa.ColumnElement[bool]:
    return ScheduleTable.state != ScheduleState.REMOVED


def list_schedules(engine: sa.Engine) -> list[ScheduleTable]:
    """Return the schedules that are not removed, by the name of their audit."""
    with reading(engine) as session:
        query = sa.select(ScheduleTable).where(_kept())
        return list(session.scalars(query.order_by(ScheduleTable.name)))


def get_schedule(engine: sa.Engine, name: str) -> ScheduleTable:
    """Return the schedule of this audit, or the one whose id begins so.

    Raises:
        UnknownScheduleError: there is none, or several ids begin so.
    """
    with reading(engine) as session:
        begins = ScheduleTable.id.startswith(name, autoescape=True)
        found = list(
            session.scalars(
                sa.select(ScheduleTable)
                .where(_kept(), sa.or_(ScheduleTable.name == name, begins))
                .limit(2)
            )
        )
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownScheduleError(
            f"Several schedules match '{name}'; give more of the schedule's id."
        )
    raise UnknownScheduleError(
        f"No schedule has the id or the audit '{name}'; 'affidavit schedule list' "
        "lists them."
    )


def read_schedule(engine: sa.Engine, schedule_id: str) -> ScheduleTable:
    """Return the schedule's row, also of one that was removed; it is there."""
    with reading(engine) as session:
        return session.get_one(ScheduleTable, schedule_id)


def move_schedule(
    engine: sa.Engine,
    schedule_id: str,
    state: ScheduleState,
    *,
    action: Action,
    actor: str,
    **columns: Any,
) -> None:
    """The schedule is in the state, with these columns, and the ledger knows.

    Raises:
        StateConflictError: it is so already, or was removed meanwhile.
    """
    with transaction(engine) as session:
        moved = session.execute(
            sa.update(ScheduleTable)
            .where(
                ScheduleTable.id == schedule_id, ScheduleTable.state != state, _kept()
            )
            .values(state=state, **columns)
            .returning(ScheduleTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if moved is None:
            raise StateConflictError(
                f"The schedule {schedule_id} is {state} already, or was removed."
            )
        if state != ScheduleState.ACTIVE:
            _skip(session, _waiting(schedule_id), actor=actor)
        record(session, action, f"schedule/{schedule_id}", actor=actor)


def lock_schedule(session: Session, schedule_id: str) -> ScheduleTable | None:
    """Return the active schedule, which nobody else changes until the end.

    None also where another transaction is at it: that one will do what is to be done.
    """
    return session.scalar(
        sa.select(ScheduleTable)
        .where(
            ScheduleTable.id == schedule_id,
            ScheduleTable.state == ScheduleState.ACTIVE,
        )
        .with_for_update(skip_locked=True)
    )


def set_next_slot(
    session: Session, schedule_id: str, next_slot: float, *, missed: int = 0
) -> None:
    """The schedule is due then, and has missed so many slots more."""
    session.execute(
        sa.update(ScheduleTable)
        .where(ScheduleTable.id == schedule_id)
        .values(next_slot=next_slot, missed=ScheduleTable.missed + missed)
        .execution_options(synchronize_session=False)
    )


def open_slot(
    session: Session, schedule_id: str, slot: float, *, manual: bool = False
) -> bool:
    """Return whether the slot is new; whether or not, it is there."""
    # Loading a dialect takes as long as a look at a run, and few lookers insert.
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if postgres else sqlite.insert
    new = session.execute(
        insert(ScheduleSlotTable)
        .values(
            schedule_id=schedule_id,
            slot=slot,
            manual=manual,
            state=SlotState.PENDING,
            attempt=0,
            created_at=epoch_now(),
        )
        .on_conflict_do_nothing(
            index_elements=[ScheduleSlotTable.schedule_id, ScheduleSlotTable.slot]
        )
        .returning(ScheduleSlotTable.id)
    ).one_or_none()
    return new is not None


def request_slot(engine: sa.Engine, schedule_id: str, *, actor: str) -> float:
    """Return the slot that a person asked for: now, whatever the schedule says."""
    with transaction(engine) as session:
        slot = session.scalar(sa.select(epoch_now())) or 0.0
        open_slot(session, schedule_id, slot, manual=True)
        record(
            session,
            Action.SLOT_REQUESTED,
            slot_name(schedule_id, slot),
            actor=actor,
        )
    return float(slot)


def skip_overtaken(
    session: Session, schedule_id: str, *, keep: int, actor: str
) -> None:
    """Of the slots that wait, only the newest are still due; none is manual."""
    waiting = _waiting(schedule_id)
    newest = (
        sa.select(ScheduleSlotTable.id)
        .where(waiting)
        .order_by(ScheduleSlotTable.slot.desc())
        .limit(keep)
    )
    kept = session.scalars(newest).all()
    _skip(session, sa.and_(waiting, ScheduleSlotTable.id.not_in(kept)), actor=actor)


def skip_late(engine: sa.Engine, *, catch_up: str, grace_s: float, actor: str) -> None:
    """Slots of schedules with that policy that nobody planned in time are skipped."""
    late = sa.and_(
        ScheduleSlotTable.state == SlotState.PENDING,
        ScheduleSlotTable.attempt == 0,
        ScheduleSlotTable.manual.is_(False),
        ScheduleSlotTable.slot < epoch_now() - grace_s,
        ScheduleSlotTable.schedule_id.in_(
            sa.select(ScheduleTable.id).where(ScheduleTable.catch_up == catch_up)
        ),
    )
    with reading(engine) as session:
        if session.scalar(sa.select(ScheduleSlotTable.id).where(late).limit(1)) is None:
            return
    with transaction(engine) as session:
        _skip(session, late, actor=actor)


def _waiting(schedule_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        ScheduleSlotTable.schedule_id == schedule_id,
        ScheduleSlotTable.state == SlotState.PENDING,
        ScheduleSlotTable.manual.is_(False),
    )


def _skip(session: Session, which: sa.ColumnElement[bool], *, actor: str) -> None:
    rows = session.execute(
        sa.update(ScheduleSlotTable)
        .where(which)
        .values(state=SlotState.SKIPPED, finished_at=epoch_now())
        .returning(ScheduleSlotTable.schedule_id, ScheduleSlotTable.slot)
        .execution_options(synchronize_session=False)
    ).all()
    for row in rows:
        record_skipped(session, row.schedule_id, [row.slot], 1, actor=actor)


def record_skipped(
    session: Session, schedule_id: str, ends: list[float], count: int, *, actor: str
) -> None:
    """The ledger says which slots had no run: the first, the last and how many."""
    record(
        session,
        Action.SLOT_SKIPPED,
        f"schedule/{schedule_id}",
        actor=actor,
        details={"count": count, "first": int(ends[0]), "last": int(ends[-1])},
    )


def slot_name(schedule_id: str, slot: float) -> str:
    """Return what the ledger calls a slot."""
    return f"schedule/{schedule_id}/slot/{int(slot)}"

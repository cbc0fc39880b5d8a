# SPDX-License-Identifier: Apache-2.0
"""The lease of a slot: who plans its run, under a fence, until it is stored.

It works as a shard's lease does. The run and the end of its slot are one transaction,
so that a planner which has lost its lease leaves no run behind.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from ledger.entries import Action
from storage.engine import epoch_now, reading, transaction
from storage.errors import FencedOutError
from storage.events import record
from storage.schedules import slot_name
from storage.states import (
    FINAL_RUN_STATES,
    RunState,
    ScheduleState,
    ShardState,
    SlotError,
    SlotState,
)
from storage.tables import RunTable, ScheduleSlotTable, ScheduleTable, ShardTable

#: Attempts to plan the run of a slot; a quarter of an hour with the pauses between.
MOST_ATTEMPTS = 6

#: Seconds before the second attempt; each further pause is twice as long.
BACKOFF_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotClaim:
    """The right to plan the run of one slot, until the lease ends."""

    slot_id: int
    schedule_id: str
    slot: float
    manual: bool
    attempt: int
    worker: str

    @property
    def object_name(self) -> str:
        """The slot's name in the ledger."""
        return slot_name(self.schedule_id, self.slot)


def due_slots(engine: sa.Engine, *, quiet_s: float = 0.0) -> list[int]:
    """Return slots that can be claimed, the oldest first.

    Args:
        engine: The database.
        quiet_s: Leaves out those that somebody was told of less long ago.
    """
    untold = sa.or_(
        ScheduleSlotTable.dispatched_at.is_(None),
        ScheduleSlotTable.dispatched_at <= epoch_now() - quiet_s,
    )
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(ScheduleSlotTable.id)
                .where(_claimable(), untold)
                .order_by(ScheduleSlotTable.slot)
            )
        )


def mark_told(engine: sa.Engine, slot_id: int) -> None:
    """Somebody was told of the slot just now."""
    with transaction(engine) as session:
        session.execute(
            sa.update(ScheduleSlotTable)
            .where(ScheduleSlotTable.id == slot_id)
            .values(dispatched_at=epoch_now())
            .execution_options(synchronize_session=False)
        )


def _expired() -> sa.ColumnElement[bool]:
    return sa.and_(
        ScheduleSlotTable.state == SlotState.PLANNING,
        ScheduleSlotTable.lease_until < epoch_now(),
    )


def _claimable() -> sa.ColumnElement[bool]:
    """A slot is free, is wanted, and no other run of its schedule is under way."""
    ready = sa.and_(
        ScheduleSlotTable.state == SlotState.PENDING,
        sa.or_(
            ScheduleSlotTable.not_before.is_(None),
            ScheduleSlotTable.not_before <= epoch_now(),
        ),
    )
    wanted = ScheduleSlotTable.schedule_id.in_(
        sa.select(ScheduleTable.id).where(
            sa.or_(
                ScheduleTable.state == ScheduleState.ACTIVE,
                sa.and_(
                    ScheduleSlotTable.manual.is_(True),
                    ScheduleTable.state == ScheduleState.PAUSED,
                ),
            )
        )
    )
    other = aliased(ScheduleSlotTable)
    busy = (
        sa.select(other.id)
        .outerjoin(RunTable, RunTable.id == other.run_id)
        .where(
            other.schedule_id == ScheduleSlotTable.schedule_id,
            other.id != ScheduleSlotTable.id,
            sa.or_(
                sa.and_(
                    other.state == SlotState.PLANNING, other.lease_until >= epoch_now()
                ),
                sa.and_(
                    other.state == SlotState.PLANNED,
                    RunTable.state.not_in(FINAL_RUN_STATES),
                ),
            ),
        )
        .exists()
    )
    return sa.and_(
        ScheduleSlotTable.attempt < MOST_ATTEMPTS,
        sa.or_(ready, _expired()),
        wanted,
        ~busy,
    )


def claim_slot(
    engine: sa.Engine, slot_id: int, *, worker: str, lease_s: float
) -> SlotClaim | None:
    """Return the claim on a slot, or None when there is nothing to do about it."""
    which = ScheduleSlotTable.id == slot_id
    with transaction(engine) as session:
        # One planner of a schedule at a time decides about its slots.
        session.scalar(
            sa.select(ScheduleTable.id)
            .join(ScheduleSlotTable, ScheduleSlotTable.schedule_id == ScheduleTable.id)
            .where(which)
            .with_for_update(of=ScheduleTable)
        )
        slot = session.scalar(
            sa.select(ScheduleSlotTable)
            .where(which, _claimable())
            .with_for_update(of=ScheduleSlotTable)
        )
        if slot is None:
            return None
        claim = SlotClaim(
            slot_id=slot.id,
            schedule_id=slot.schedule_id,
            slot=slot.slot,
            manual=slot.manual,
            attempt=slot.attempt + 1,
            worker=worker,
        )
        if slot.state == SlotState.PLANNING:
            # How the former attempt ended is told all the same.
            _record_failure(
                session, claim, slot.attempt, SlotError.LEASE_EXPIRED, actor=worker
            )
        session.execute(
            sa.update(ScheduleSlotTable)
            .where(which)
            .values(
                state=SlotState.PLANNING,
                attempt=claim.attempt,
                lease_until=epoch_now() + lease_s,
                worker=worker,
                error=None,
            )
            .execution_options(synchronize_session=False)
        )
    return claim


def _owned(claim: SlotClaim) -> sa.ColumnElement[bool]:
    return sa.and_(
        ScheduleSlotTable.id == claim.slot_id,
        ScheduleSlotTable.attempt == claim.attempt,
        ScheduleSlotTable.state == SlotState.PLANNING,
    )


def _set_owned(session: Session, claim: SlotClaim, **columns: object) -> None:
    row = session.execute(
        sa.update(ScheduleSlotTable)
        .where(_owned(claim))
        .values(**columns)
        .returning(ScheduleSlotTable.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        raise FencedOutError(f"The lease of {claim.object_name} is lost.")


def renew_slot(engine: sa.Engine, claim: SlotClaim, *, lease_s: float) -> bool:
    """The lease is renewed; return True, because planning is never unwanted.

    Raises:
        FencedOutError: another attempt owns the slot.
    """
    with transaction(engine) as session:
        _set_owned(session, claim, lease_until=epoch_now() + lease_s)
    return True


def end_slot(
    session: Session, claim: SlotClaim, *, run_id: str, model_digest: str
) -> None:
    """The slot has its run, in the transaction that stores the run.

    Raises:
        FencedOutError: another attempt owns the slot.
    """
    _set_owned(
        session,
        claim,
        state=SlotState.PLANNED,
        run_id=run_id,
        lease_until=None,
        finished_at=epoch_now(),
    )
    _note_weights(session, claim, run_id, model_digest)


def _note_weights(
    session: Session, claim: SlotClaim, run_id: str, model_digest: str
) -> None:
    """The schedule knows the weights of its last run, the ledger that they changed."""
    which = ScheduleTable.id == claim.schedule_id
    before = session.scalar(sa.select(ScheduleTable.weights_sha256).where(which))
    if before == model_digest:
        return
    session.execute(
        sa.update(ScheduleTable)
        .where(which)
        .values(weights_sha256=model_digest)
        .execution_options(synchronize_session=False)
    )
    if before is not None:
        record(
            session,
            Action.WEIGHTS_CHANGED,
            f"schedule/{claim.schedule_id}",
            actor=claim.worker,
            digest=model_digest,
            details={"before": before, "run": run_id},
        )


def end_empty_slot(engine: sa.Engine, claim: SlotClaim, *, unchanged: int) -> None:
    """The slot has no run, because nothing was new or changed.

    Raises:
        FencedOutError: another attempt owns the slot.
    """
    with transaction(engine) as session:
        _set_owned(
            session,
            claim,
            state=SlotState.NOTHING_NEW,
            lease_until=None,
            finished_at=epoch_now(),
        )
        record(
            session,
            Action.SLOT_CLOSED,
            claim.object_name,
            actor=claim.worker,
            details={"unchanged": unchanged},
        )


def fail_slot(engine: sa.Engine, claim: SlotClaim, error: SlotError) -> None:
    """The attempt failed: the slot waits for its next one, or has failed.

    A lease already lost is left alone.
    """
    with transaction(engine) as session:
        _fail(session, _owned(claim), error, actor=claim.worker)


def expire_slots(engine: sa.Engine, *, actor: str) -> int:
    """Slots whose planner went silent wait for their next attempt, or have failed.

    Returns:
        How many there were.
    """
    with reading(engine) as session:
        found = session.scalars(sa.select(ScheduleSlotTable.id).where(_expired())).all()
    count = 0
    for slot_id in found:
        with transaction(engine) as session:
            which = sa.and_(ScheduleSlotTable.id == slot_id, _expired())
            count += _fail(session, which, SlotError.LEASE_EXPIRED, actor=actor)
    return count


def _fail(
    session: Session, which: sa.ColumnElement[bool], error: SlotError, *, actor: str
) -> bool:
    slot = session.scalar(sa.select(ScheduleSlotTable).where(which).with_for_update())
    if slot is None:
        return False
    is_last = slot.attempt >= MOST_ATTEMPTS
    session.execute(
        sa.update(ScheduleSlotTable)
        .where(ScheduleSlotTable.id == slot.id)
        .values(
            state=SlotState.FAILED if is_last else SlotState.PENDING,
            lease_until=None,
            dispatched_at=None,
            error=error,
            not_before=epoch_now() + BACKOFF_S * 2.0 ** (slot.attempt - 1),
            finished_at=epoch_now() if is_last else None,
        )
        .execution_options(synchronize_session=False)
    )
    _record_failure(session, slot, slot.attempt, error, actor=actor, is_last=is_last)
    return True


def _record_failure(
    session: Session,
    slot: SlotClaim | ScheduleSlotTable,
    attempt: int,
    error: SlotError,
    *,
    actor: str,
    is_last: bool = False,
) -> None:
    record(
        session,
        Action.SLOT_FAILED,
        slot_name(slot.schedule_id, slot.slot),
        actor=actor,
        details={"attempt": attempt, "error": error.value, "final": is_last},
    )


def last_slots(engine: sa.Engine, schedule_id: str) -> list[ScheduleSlotTable]:
    """Return the newest slots of a schedule, the newest first."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(ScheduleSlotTable)
                .where(ScheduleSlotTable.schedule_id == schedule_id)
                .order_by(ScheduleSlotTable.slot.desc())
                .limit(10)
            )
        )


def get_slot(engine: sa.Engine, slot_id: int) -> ScheduleSlotTable:
    """Return a slot's row; it is there."""
    with reading(engine) as session:
        return session.get_one(ScheduleSlotTable, slot_id)


def left_runs(engine: sa.Engine) -> list[tuple[str, str]]:
    """Return embedded runs of slots that nobody works on: schedule and run.

    Their process died: they are open, and no lease of theirs holds.
    """
    held = (
        sa.select(ShardTable.id)
        .where(
            ShardTable.run_id == RunTable.id,
            ShardTable.state == ShardState.RUNNING,
            ShardTable.lease_until >= epoch_now(),
        )
        .exists()
    )
    finalising = sa.and_(
        RunTable.state == RunState.FINALISING,
        RunTable.finaliser_lease_until >= epoch_now(),
    )
    with reading(engine) as session:
        rows = session.execute(
            sa.select(ScheduleSlotTable.schedule_id, RunTable.id)
            .join(RunTable, RunTable.id == ScheduleSlotTable.run_id)
            .where(
                RunTable.queue == "embedded",
                RunTable.state.not_in(FINAL_RUN_STATES),
                ~held,
                ~finalising,
            )
            .order_by(RunTable.created_at)
        )
        return [(row.schedule_id, row.id) for row in rows]

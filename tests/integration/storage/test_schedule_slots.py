# SPDX-License-Identifier: Apache-2.0
"""The lease of a slot: one planner at a time, a fence, a bounded number of attempts."""

import pytest
import sqlalchemy as sa

from ledger.entries import Action
from storage.engine import epoch_now, transaction
from storage.errors import FencedOutError, StateConflictError, UnknownScheduleError
from storage.schedule_slots import (
    MOST_ATTEMPTS,
    SlotClaim,
    claim_slot,
    due_slots,
    end_empty_slot,
    end_slot,
    expire_slots,
    fail_slot,
    left_runs,
    mark_told,
    renew_slot,
)
from storage.schedules import get_schedule, move_schedule, open_slot, request_slot
from storage.states import RunState, ScheduleState, SlotError
from tests.support.planted import at_once, entries, plant_run, set_run
from tests.support.planted_schedules import plant_schedule, schedule, set_slot, slots

ACTOR = "worker/tester"


def due(engine: sa.Engine, schedule_id: str, slot: float = 1e9) -> int:
    """Return the id of a slot that is due."""
    with transaction(engine) as session:
        open_slot(session, schedule_id, slot)
    return next(row.id for row in slots(engine, schedule_id) if row.slot == slot)


def claimed(engine: sa.Engine, slot_id: int) -> SlotClaim:
    """Return a claim that must succeed."""
    claim = claim_slot(engine, slot_id, worker=ACTOR, lease_s=60)
    assert claim is not None
    return claim


def end(engine: sa.Engine, claim: SlotClaim, model: str = "1" * 64) -> str:
    """Return the run that the slot has now."""
    run_id = plant_run(engine)
    with transaction(engine) as session:
        end_slot(session, claim, run_id=run_id, model_digest=model)
    return run_id


def test_of_claims_at_once_one_succeeds(engine: sa.Engine) -> None:
    """However many messages name a slot, one planner has it."""
    slot = due(engine, plant_schedule(engine))
    found = at_once([lambda: claim_slot(engine, slot, worker=ACTOR, lease_s=60)] * 4)
    assert [claim.attempt for claim in found if claim is not None] == [1]


def test_a_dead_planner_is_replaced_and_fenced_out(engine: sa.Engine) -> None:
    """A slot whose planner went silent is taken up; the silent one writes nothing."""
    slot = due(engine, plant_schedule(engine))
    dead = claimed(engine, slot)
    assert renew_slot(engine, dead, lease_s=60)
    set_slot(engine, slot, lease_until=epoch_now() - 1)
    second = claimed(engine, slot)
    assert second.attempt == 2
    with pytest.raises(FencedOutError):
        renew_slot(engine, dead, lease_s=60)
    with pytest.raises(FencedOutError):
        end(engine, dead)
    fail_slot(engine, dead, SlotError.FAULT)
    with pytest.raises(FencedOutError):
        end_empty_slot(engine, dead, unchanged=1)
    run_id = end(engine, second)
    (row,) = slots(engine, second.schedule_id)
    assert (row.state, row.run_id, row.error) == ("planned", run_id, None)
    (told,) = entries(engine, action=Action.SLOT_FAILED)
    assert told.details == {"attempt": 1, "error": "lease_expired", "final": False}


def test_attempts_are_bounded_and_each_is_told(engine: sa.Engine) -> None:
    """Planning that fails is tried again after a pause, then the slot has failed."""
    found = plant_schedule(engine)
    slot = due(engine, found)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        fail_slot(engine, claimed(engine, slot), SlotError.SOURCE_UNUSABLE)
        assert due_slots(engine) == [], "there must be a pause"
        set_slot(engine, slot, not_before=epoch_now() - 1)
        assert (due_slots(engine) == []) == (attempt == MOST_ATTEMPTS)
    (row,) = slots(engine, found)
    assert (row.state, row.error) == ("failed", "source_unusable")
    told = entries(engine, action=Action.SLOT_FAILED)
    assert [entry.details["final"] for entry in told] == [False] * 5 + [True]


def test_a_planner_that_dies_each_time_fails_the_slot(engine: sa.Engine) -> None:
    """A slot that kills its planner does not do so for ever."""
    slot = due(engine, plant_schedule(engine))
    for _ in range(MOST_ATTEMPTS):
        claimed(engine, slot)
        set_slot(engine, slot, lease_until=epoch_now() - 1, not_before=None)
        assert expire_slots(engine, actor=ACTOR) == 1
        set_slot(engine, slot, not_before=None)
    assert claim_slot(engine, slot, worker=ACTOR, lease_s=60) is None
    assert expire_slots(engine, actor=ACTOR) == 0


def test_a_slot_waits_for_the_schedules_run_before(engine: sa.Engine) -> None:
    """Two runs of a schedule are never under way at once; other schedules go on."""
    found, other = plant_schedule(engine), plant_schedule(engine, "b")
    first, second = due(engine, found, 1e9), due(engine, found, 2e9)
    elsewhere = due(engine, other, 3e9)
    claim = claimed(engine, first)
    assert due_slots(engine) == [elsewhere]
    run_id = end(engine, claim)
    assert due_slots(engine) == [elsewhere]
    assert claim_slot(engine, second, worker=ACTOR, lease_s=60) is None
    set_run(engine, run_id, state=RunState.DONE)
    assert due_slots(engine) == [second, elsewhere]


def test_hints_about_a_slot_are_rare(engine: sa.Engine) -> None:
    """A slot that somebody was just told of is not told of again yet."""
    slot = due(engine, plant_schedule(engine))
    mark_told(engine, slot)
    assert due_slots(engine, quiet_s=60) == []
    assert due_slots(engine) == [slot]


def test_a_paused_schedule_runs_what_a_person_asks_for(engine: sa.Engine) -> None:
    """`run-now` goes through a pause, a removed schedule makes nothing."""
    found = plant_schedule(engine)
    waiting = due(engine, found)
    move_schedule(
        engine,
        found,
        ScheduleState.PAUSED,
        action=Action.SCHEDULE_PAUSED,
        actor=ACTOR,
    )
    assert due_slots(engine) == []
    request_slot(engine, found, actor="user/tester")
    (asked,) = due_slots(engine)
    assert asked != waiting
    with pytest.raises(StateConflictError, match="is paused already"):
        move_schedule(
            engine,
            found,
            ScheduleState.PAUSED,
            action=Action.SCHEDULE_PAUSED,
            actor=ACTOR,
        )
    move_schedule(
        engine,
        found,
        ScheduleState.REMOVED,
        action=Action.SCHEDULE_REMOVED,
        actor=ACTOR,
    )
    assert due_slots(engine) == []
    with pytest.raises(UnknownScheduleError, match="No schedule has the id"):
        get_schedule(engine, found)


def test_other_weights_are_told_of_once(engine: sa.Engine) -> None:
    """The ledger says when a schedule's run has other weights than the one before."""
    found = plant_schedule(engine, weights_sha256="1" * 64)
    for number, model in enumerate(("1" * 64, "2" * 64, "2" * 64)):
        run_id = end(engine, claimed(engine, due(engine, found, 1e9 + number)), model)
        set_run(engine, run_id, state=RunState.DONE)
    (told,) = entries(engine, action=Action.WEIGHTS_CHANGED)
    assert (told.digest, told.details["before"]) == ("2" * 64, "1" * 64)
    assert schedule(engine, found).weights_sha256 == "2" * 64


def test_an_audit_has_one_schedule(engine: sa.Engine) -> None:
    """Of schedules added at once for one audit, one is there."""

    def add() -> str | None:
        try:
            return plant_schedule(engine)
        except StateConflictError:
            return None

    added = [one for one in at_once([add] * 3) if one is not None]
    assert len(added) == 1
    assert get_schedule(engine, "a").id == added[0]
    assert get_schedule(engine, added[0][:6]).name == "a"


def test_runs_whose_process_died_are_found(engine: sa.Engine) -> None:
    """An open embedded run of a slot that no lease holds is left; no other is."""
    found = plant_schedule(engine)
    run_id = end(engine, claimed(engine, due(engine, found)))
    assert left_runs(engine) == []
    set_run(engine, run_id, queue="embedded")
    assert left_runs(engine) == [(found, run_id)]
    set_run(engine, run_id, state=RunState.DONE)
    assert left_runs(engine) == []
    plant_run(engine, queue="embedded")
    assert left_runs(engine) == []

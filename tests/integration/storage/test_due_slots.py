# SPDX-License-Identifier: Apache-2.0
"""Ticks bring about each slot once, whatever clocks and ticks do."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from ledger.entries import Action
from pipeline.due_slots import GRACE_S, MOST_CAUGHT_UP, clock, open_due_slots
from storage.schedules import list_schedules
from storage.states import ScheduleState
from tests.support.planted import at_once, entries
from tests.support.planted_schedules import (
    plant_schedule,
    schedule,
    set_schedule,
    slots,
    slots_in,
)

HOUR = 3600.0
#: A moment at which the hourly schedules of these tests are due, and years from now.
NOON = datetime(2040, 1, 1, 12, tzinfo=UTC).timestamp()
ACTOR = "worker/tester"


def tick(engine: sa.Engine, now: float) -> None:
    """A tick at that moment."""
    open_due_slots(engine, actor=ACTOR, now=now)


def test_a_tick_brings_about_a_slot_at_its_time(engine: sa.Engine) -> None:
    """Before its moment there is none, from then on one, however late the tick."""
    found = plant_schedule(engine, next_slot=NOON)
    tick(engine, NOON - 1)
    assert slots(engine, found) == []
    tick(engine, NOON + 59)
    assert slots_in(engine, found, "pending") == [NOON]
    assert schedule(engine, found).next_slot == NOON + HOUR
    for _ in range(3):
        tick(engine, NOON + 60)
    assert slots_in(engine, found, "pending") == [NOON]


def test_ticks_at_once_bring_about_one_slot(engine: sa.Engine) -> None:
    """Two beats, two control workers: a slot has one row and none is skipped."""
    found = plant_schedule(engine, next_slot=NOON)
    at_once([lambda: tick(engine, NOON + 1)] * 4)
    assert [row.slot for row in slots(engine, found)] == [NOON]
    assert schedule(engine, found).missed == 0
    assert entries(engine, action=Action.SLOT_SKIPPED) == []


@pytest.mark.parametrize(
    ("catch_up", "late_s", "caught_up"),
    [
        ("latest", 10.0, [5]),
        ("all", 10.0, [0, 1, 2, 3, 4, 5]),
        ("none", 10.0, [5]),
        ("latest", GRACE_S + 1, [5]),
        ("none", GRACE_S + 1, []),
    ],
)
def test_missed_slots_follow_the_policy(
    engine: sa.Engine, catch_up: str, late_s: float, caught_up: list[int]
) -> None:
    """Of six slots that nobody ticked for, the policy's have a run, the rest a word."""
    found = plant_schedule(engine, next_slot=NOON, catch_up=catch_up)
    tick(engine, NOON + 5 * HOUR + late_s)
    chosen = [NOON + number * HOUR for number in caught_up]
    assert slots_in(engine, found, "pending") == chosen
    row = schedule(engine, found)
    assert (row.missed, row.next_slot) == (6 - len(chosen), NOON + 6 * HOUR)
    told = [e.details for e in entries(engine, action=Action.SLOT_SKIPPED)]
    if len(chosen) == 6:
        assert told == []
    else:
        assert told == [
            {
                "count": 6 - len(chosen),
                "first": int(NOON),
                "last": int(NOON + 5 * HOUR),
            }
        ]


def test_what_is_caught_up_is_bounded(engine: sa.Engine) -> None:
    """Three days of hours missed give the newest 24 runs and no more."""
    found = plant_schedule(engine, next_slot=NOON, catch_up="all")
    tick(engine, NOON + 71 * HOUR)
    expected = [NOON + number * HOUR for number in range(72 - MOST_CAUGHT_UP, 72)]
    assert slots_in(engine, found, "pending") == expected
    assert schedule(engine, found).missed == 72 - MOST_CAUGHT_UP


def test_a_year_of_minutes_is_counted_roughly_and_soon(engine: sa.Engine) -> None:
    """The newest slot of a very long gap is found without counting all of it."""
    found = plant_schedule(engine, next_slot=NOON, cron="* * * * *")
    tick(engine, NOON + 365 * 24 * HOUR)
    assert slots_in(engine, found, "pending") == [NOON + 365 * 24 * HOUR]
    assert 20_000 < schedule(engine, found).missed < 30_000


def test_a_clock_that_jumps_back_makes_no_second_run(engine: sa.Engine) -> None:
    """Slots that had their run are not due again when their moment comes again."""
    found = plant_schedule(engine, next_slot=NOON)
    tick(engine, NOON + 1)
    tick(engine, NOON - 1800)
    assert schedule(engine, found).next_slot == NOON
    tick(engine, NOON + 2)
    assert [row.slot for row in slots(engine, found)] == [NOON]
    tick(engine, NOON + HOUR)
    assert [row.slot for row in slots(engine, found)] == [NOON, NOON + HOUR]


def test_a_clock_that_was_far_ahead_does_not_stop_the_schedule(
    engine: sa.Engine,
) -> None:
    """After an hour in another year, the next slot is that of the right clock."""
    found = plant_schedule(engine, next_slot=NOON)
    tick(engine, NOON + 1000 * 24 * HOUR)
    tick(engine, NOON + 60)
    assert schedule(engine, found).next_slot == NOON + HOUR
    tick(engine, NOON + HOUR + 1)
    assert NOON + HOUR in {row.slot for row in slots(engine, found)}


def test_a_slot_that_waits_is_overtaken_by_the_next(engine: sa.Engine) -> None:
    """Where nothing plans, one slot waits, not one for every hour."""
    found = plant_schedule(engine, next_slot=NOON)
    for number in range(3):
        tick(engine, NOON + number * HOUR)
    assert slots_in(engine, found, "pending") == [NOON + 2 * HOUR]
    assert slots_in(engine, found, "skipped") == [NOON, NOON + HOUR]


def test_a_slot_that_waits_too_long_is_skipped_under_none(engine: sa.Engine) -> None:
    """A schedule that catches nothing up does not run hours late."""
    now = clock(engine)
    # Once in years, so that no slot of its own comes due beside the planted one.
    rare = {"cron": "0 0 29 2 *", "catch_up": "none"}
    found = plant_schedule(engine, next_slot=now - GRACE_S + 60, **rare)
    open_due_slots(engine, actor=ACTOR)
    assert len(slots_in(engine, found, "pending")) == 1
    late = plant_schedule(engine, "b", next_slot=now - GRACE_S - 60, **rare)
    open_due_slots(engine, actor=ACTOR)
    assert slots_in(engine, late, "pending") == []
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE schedule_slots SET slot = slot - 120 WHERE state='pending'")
        )
    open_due_slots(engine, actor=ACTOR)
    assert slots_in(engine, found, "pending") == []
    assert len(slots_in(engine, found, "skipped")) == 1


def test_a_paused_schedule_has_no_slots(engine: sa.Engine) -> None:
    """Nothing is due while it is paused."""
    found = plant_schedule(engine, next_slot=NOON)
    set_schedule(engine, found, state=ScheduleState.PAUSED)
    tick(engine, NOON + 1)
    assert slots(engine, found) == []


def test_a_schedule_without_its_time_zone_stops_no_other(engine: sa.Engine) -> None:
    """What this machine cannot compute is left out; the others have their slots."""
    plant_schedule(engine, "a", next_slot=NOON, timezone="Mars/Olympus")
    good = plant_schedule(engine, "b", next_slot=NOON)
    tick(engine, NOON)
    assert slots_in(engine, good, "pending") == [NOON]
    assert [row.name for row in list_schedules(engine)] == ["a", "b"]

# SPDX-License-Identifier: Apache-2.0
"""Rounds of the control worker tell a worker of each slot that is due, and wait."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from pipeline.services import Services
from storage.engine import epoch_now
from tests.support.planted import at_once, plant_worker, services_of
from tests.support.planted_schedules import (
    plant_schedule,
    set_schedule,
    set_slot,
    slots,
)
from workers.process_state import ProcessState
from workers.recovery import look_after
from workers.schedules import plan_due_slot


@pytest.fixture
def services(engine: sa.Engine, tmp_path: Path) -> Iterator[Services]:
    """Services on a fresh database, nobody alive."""
    found = services_of(engine, tmp_path, hint_timeout_s=60)
    yield found
    found.close()


def look(services: Services) -> list[tuple[int, str]]:
    """Return the hints about slots that a round sends."""
    sent: list[tuple[int, str]] = []
    look_after(
        services,
        publish=lambda *_hint: None,
        publish_slot=lambda slot_id, queue: sent.append((slot_id, queue)),
    )
    return sent


def due_schedule(engine: sa.Engine) -> str:
    """Return the id of a schedule that is due now."""
    found = plant_schedule(engine)
    set_schedule(engine, found, next_slot=epoch_now() - 1)
    return found


def test_a_slot_is_told_of_once_in_a_while(services: Services) -> None:
    """A worker that explains hears of it, and again when the hint may be lost."""
    engine = services.engine
    found = due_schedule(engine)
    plant_worker(engine, "control")
    assert look(services) == [], "nobody can plan it"
    plant_worker(engine, "gpu")
    (slot,) = slots(engine, found)
    assert look(services) == [(slot.id, "gpu")]
    assert look(services) == []
    plant_worker(engine, "cpu")
    set_slot(engine, slot.id, dispatched_at=epoch_now() - 61)
    assert look(services) == [(slot.id, "cpu")]


def test_rounds_at_once_bring_about_one_slot(services: Services) -> None:
    """Two control workers that tick together make one slot, whoever tells of it."""
    found = due_schedule(services.engine)
    plant_worker(services.engine, "cpu")
    hints = at_once([lambda: look(services)] * 3)
    (slot,) = slots(services.engine, found)
    assert {hint for sent in hints for hint in sent} == {(slot.id, "cpu")}


def test_a_broker_that_is_down_loses_no_slot(services: Services) -> None:
    """The slot is told of again as soon as the broker answers."""
    engine = services.engine
    found = due_schedule(engine)
    plant_worker(engine, "cpu")

    def refuse(_slot: int, _queue: str) -> None:
        raise redis.ConnectionError

    look_after(services, publish=lambda *_hint: None, publish_slot=refuse)
    (slot,) = slots(engine, found)
    assert look(services) == [(slot.id, "cpu")]


def test_a_spec_of_another_version_is_a_code_on_the_slot(services: Services) -> None:
    """A worker that cannot plan a slot says why; a stale hint is nothing."""
    engine = services.engine
    found = due_schedule(engine)  # its spec is no spec
    plant_worker(engine, "cpu")
    ((slot_id, _queue),) = look(services)
    state = ProcessState(services)
    for _ in range(2):
        plan_due_slot(state, slot_id, publish=lambda *_hint: None)
    (slot,) = slots(engine, found)
    assert (slot.state, slot.error, slot.attempt) == ("pending", "spec_unusable", 1)

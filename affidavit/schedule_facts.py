# SPDX-License-Identifier: Apache-2.0
"""What the command line tells about schedules, as plain values."""

from typing import TYPE_CHECKING, Any

from affidavit.exit_codes import ExitCode
from affidavit.run_facts import run_document
from pipeline.cron import local_text
from pipeline.scheduling import spec_file_state
from pipeline.services import Services
from storage.runs import get_run
from storage.schedule_slots import last_slots
from storage.schedules import read_schedule
from storage.states import RunState, SlotError, SlotState
from storage.tables import ScheduleTable

if TYPE_CHECKING:
    from pipeline.scheduled_runs import DueRun


def schedule_document(services: Services, schedule: ScheduleTable) -> dict[str, Any]:
    """Return the schedule as every command about it prints it."""
    zone = schedule.timezone
    return {
        "schedule": schedule.id,
        "audit": schedule.name,
        "state": schedule.state,
        "cron": schedule.cron,
        "timezone": zone,
        "catch_up": schedule.catch_up,
        "incremental": schedule.incremental,
        "next_slot": schedule.next_slot,
        "next_slot_local": local_text(schedule.next_slot, zone),
        "missed": schedule.missed,
        "spec": schedule.spec_path,
        "spec_file": spec_file_state(schedule),
        "weights_sha256": schedule.weights_sha256,
        "created_at": schedule.created_at,
        "slots": [
            {
                "slot": slot.slot,
                "slot_local": local_text(slot.slot, zone),
                "manual": slot.manual,
                "state": slot.state,
                "attempts": slot.attempt,
                "error": slot.error,
                "run": slot.run_id,
            }
            for slot in last_slots(services.engine, schedule.id)
        ],
    }


def due_document(services: Services, done: "DueRun") -> dict[str, Any]:
    """Return what became of a slot as `schedule run-due` prints it."""
    planned = done.planned
    run = None
    if planned.run_id is not None:
        run = run_document(services, get_run(services.engine, planned.run_id))
    return {
        "schedule": done.schedule_id,
        "audit": read_schedule(services.engine, done.schedule_id).name,
        "slot": done.slot,
        "state": planned.state.value,
        "error": None if planned.error is None else planned.error.value,
        "message": planned.message,
        "warnings": done.warnings,
        "run": run,
    }


def exit_code_of_due(done: "DueRun", document: dict[str, Any]) -> ExitCode:
    """Return the exit code that one slot alone would lead to."""
    if done.planned.state == SlotState.FAILED:
        codes = {
            SlotError.INFRASTRUCTURE: ExitCode.INFRASTRUCTURE,
            SlotError.LEASE_EXPIRED: ExitCode.INFRASTRUCTURE,
            SlotError.FAULT: ExitCode.FAULT,
        }
        return codes.get(done.planned.error or SlotError.FAULT, ExitCode.USAGE)
    run = document["run"]
    if run is None:
        return ExitCode.DONE
    if done.state in {
        RunState.INTERRUPTED,
        RunState.PAUSED,
        RunState.CANCELLED,
    }:
        return ExitCode.INTERRUPTED
    unmet = bool(run["criteria"]) and not run["criteria_met"]
    if unmet or done.state == RunState.INCOMPLETE:
        return ExitCode.CRITERIA_NOT_MET
    return ExitCode.DONE

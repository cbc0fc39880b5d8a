# SPDX-License-Identifier: Apache-2.0
"""What people do with schedules: add, pause, resume, remove, ask for a run now."""

import hashlib
from pathlib import Path

from ledger.entries import Action
from pipeline.cron import Cron
from pipeline.digests import document_digest
from pipeline.due_slots import clock
from pipeline.errors import SpecError
from pipeline.services import Services
from pipeline.signing import seal
from pipeline.spec import HUB, AuditSpec
from pipeline.spec_checks import check_spec
from pipeline.spec_file import load_spec
from storage.schedules import add_schedule, move_schedule, request_slot
from storage.schema import ensure_embedded_schema
from storage.states import ScheduleState
from storage.tables import ScheduleTable

_CHUNK_BYTES = 1 << 20


def schedule_audit(services: Services, spec_path: Path) -> ScheduleTable:
    """Return the schedule of the audit, as its spec is now; torch is not loaded.

    A SQLite database that is not there yet is made.

    Raises:
        SpecError: the spec is wrong, or says nothing about a schedule.
        SourceError: the data source cannot be opened.
        StateConflictError: the audit has a schedule already.
    """
    checked = check_spec(services, spec_path)
    written = checked.written
    if written.schedule is None:
        raise SpecError(
            f"{spec_path} has no section 'schedule'; say when it runs, such as: "
            "schedule: {cron: '0 3 * * *', timezone: Europe/Berlin}"
        )
    ensure_embedded_schema(
        services.settings.resolved_database_url, actor=services.actor
    )
    asked = written.schedule
    spec = written.model_dump(mode="json")
    upcoming = Cron(asked.cron, asked.timezone).after(clock(services.engine))
    if upcoming is None:  # the spec was refused otherwise
        raise SpecError(f"schedule: {asked.cron!r} names no moment to come.")
    schedule = add_schedule(
        services.engine,
        {
            "name": written.audit,
            "spec_path": str(spec_path.resolve()),
            "spec": spec,
            "spec_digest": document_digest(spec),
            "weights_sha256": _weights_sha256(checked.resolved),
            "cron": asked.cron,
            "timezone": asked.timezone,
            "catch_up": asked.catch_up,
            "incremental": asked.incremental,
            "next_slot": upcoming,
        },
        actor=services.actor,
    )
    seal(services)
    return schedule


def _weights_sha256(spec: AuditSpec) -> str | None:
    """Return the digest of the weights file, None where the spec names none."""
    weights = spec.model.weights
    if weights is None or weights == HUB:
        return None
    digest = hashlib.sha256()
    with Path(weights).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def pause_schedule(services: Services, schedule: ScheduleTable) -> None:
    """No slot of the schedule comes about until it is resumed.

    Raises:
        StateConflictError: it is paused already.
    """
    _move(services, schedule, ScheduleState.PAUSED, Action.SCHEDULE_PAUSED)


def resume_schedule(services: Services, schedule: ScheduleTable) -> None:
    """The schedule goes on with its next slot; those of the pause are not caught up.

    Raises:
        StateConflictError: it is active already.
    """
    upcoming = Cron(schedule.cron, schedule.timezone).after(clock(services.engine))
    move_schedule(
        services.engine,
        schedule.id,
        ScheduleState.ACTIVE,
        action=Action.SCHEDULE_RESUMED,
        actor=services.actor,
        next_slot=upcoming,
    )
    seal(services)


def remove_schedule(services: Services, schedule: ScheduleTable) -> None:
    """The schedule makes no more runs; those that it made stay.

    Raises:
        StateConflictError: somebody has removed it meanwhile.
    """
    _move(services, schedule, ScheduleState.REMOVED, Action.SCHEDULE_REMOVED)


def _move(
    services: Services, schedule: ScheduleTable, state: ScheduleState, action: Action
) -> None:
    move_schedule(
        services.engine, schedule.id, state, action=action, actor=services.actor
    )
    seal(services)


def ask_for_run(services: Services, schedule: ScheduleTable) -> float:
    """Return the slot of a run that is due now, also while the schedule is paused."""
    slot = request_slot(services.engine, schedule.id, actor=services.actor)
    seal(services)
    return slot


def spec_file_state(schedule: ScheduleTable) -> str:
    """Return whether the spec's file is as it was when added, for whoever lists it.

    It is `unchanged`, `changed`, or `missing` where it is not readable here.
    """
    try:
        now = load_spec(Path(schedule.spec_path)).model_dump(mode="json")
    except SpecError:
        exists = Path(schedule.spec_path).is_file()
        return "changed" if exists else "missing"
    return "unchanged" if document_digest(now) == schedule.spec_digest else "changed"

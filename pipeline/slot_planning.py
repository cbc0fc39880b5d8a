# SPDX-License-Identifier: Apache-2.0
"""Planning the run of one slot: claimed, under a lease, with its failure as a code.

What a schedule runs is the spec as it was when it was added; its relative paths count
from the folder that its file lay in. Called the same way by a worker and by
`affidavit schedule run-due`, which differ in how the run is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import structlog

from explain.errors import ExplainError
from pipeline.errors import (
    GateRefusedError,
    InfrastructureError,
    ModelError,
    ModelRefusedError,
    SourceError,
    SpecError,
)
from pipeline.incremental import NothingNewError
from pipeline.paths import PathEscapeError
from pipeline.renewal import Renewal
from pipeline.services import Services
from pipeline.spec import AuditSpec
from pipeline.spec_checks import CheckedSpec, check_written
from storage.engine import reading
from storage.errors import FencedOutError, StorageError
from storage.schedule_slots import SlotClaim, end_empty_slot, fail_slot, renew_slot
from storage.states import SlotError, SlotState
from storage.tables import ScheduleTable

log = structlog.get_logger()

#: Listing a large source may be silent for long; a planner that hangs for longer loses
#: the slot to another one.
STALL_S = 3600.0

#: What each kind of error is called on the slot; the first that fits counts.
_CODES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], SlotError], ...] = (
    (PathEscapeError, SlotError.PATH_OUTSIDE_ROOTS),
    (SpecError, SlotError.SPEC_UNUSABLE),
    (ModelRefusedError, SlotError.MODEL_REFUSED),
    (GateRefusedError, SlotError.GATE_REFUSED),
    ((ModelError, ExplainError), SlotError.MODEL_UNUSABLE),
    (SourceError, SlotError.SOURCE_UNUSABLE),
    ((InfrastructureError, StorageError, OSError), SlotError.INFRASTRUCTURE),
)

#: Stores the run of a checked spec and returns its id.
Store = Callable[[CheckedSpec, bool], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSlot:
    """How the planning of a slot ended.

    Attributes:
        state: Where the slot stands now.
        run_id: Its run, None where there is none.
        error: Why there is none.
        message: The same for people; it may name paths, so it is not stored.
    """

    state: SlotState
    run_id: str | None = None
    error: SlotError | None = None
    message: str | None = None


def plan_slot(services: Services, claim: SlotClaim, store: Store) -> PlannedSlot | None:
    """Return how it ended, or None where another planner has taken over.

    Args:
        services: Database and stores.
        claim: The fence.
        store: Stores the run; told whether it is to be incremental.
    """
    settings = services.settings

    def renew() -> bool:
        return renew_slot(services.engine, claim, lease_s=settings.lease_s)

    try:
        with Renewal(
            renew,
            name=f"slot-{claim.slot_id}",
            lease_s=settings.lease_s,
            stall_s=STALL_S,
        ):
            return _plan(services, claim, store)
    except FencedOutError:
        return None
    except Exception as exc:  # noqa: BLE001 - no schedule may stop the others
        error = error_code(exc)
        log.warning("slot_not_planned", error=type(exc).__name__)
        fail_slot(services.engine, claim, error)
        is_known = error is not SlotError.FAULT
        return PlannedSlot(
            state=SlotState.FAILED,
            error=error,
            # The text of an unforeseen error may quote an input.
            message=str(exc) if is_known else type(exc).__name__,
        )


def _plan(services: Services, claim: SlotClaim, store: Store) -> PlannedSlot:
    with reading(services.engine) as session:
        schedule = session.scalar(
            sa.select(ScheduleTable).where(ScheduleTable.id == claim.schedule_id)
        )
    if schedule is None:
        raise FencedOutError(f"The schedule of {claim.object_name} is gone.")
    try:
        written = AuditSpec.model_validate(schedule.spec)
    except ValueError as exc:
        raise SpecError(
            "The schedule's spec is of another version; remove the schedule and add "
            "its spec again."
        ) from exc
    checked = check_written(services, written, base=Path(schedule.spec_path).parent)
    try:
        run_id = store(checked, schedule.incremental)
    except NothingNewError as exc:
        end_empty_slot(services.engine, claim, unchanged=exc.counts["unchanged"])
        return PlannedSlot(state=SlotState.NOTHING_NEW, message=str(exc))
    return PlannedSlot(state=SlotState.PLANNED, run_id=run_id)


def error_code(error: Exception) -> SlotError:
    """Return what an error is called on a slot and in the ledger."""
    return next(
        (code for kinds, code in _CODES if isinstance(error, kinds)), SlotError.FAULT
    )

# SPDX-License-Identifier: Apache-2.0
"""What is due, run in this process: for installations without a queue, from cron(8).

One slot after another: its run is planned and worked through before the next is
claimed. A run whose process died is taken up first; one that was interrupted waits for
`affidavit resume`, as any other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ledger.entries import Action
from pipeline.any_executor import AnyExecutor
from pipeline.deeds import record_deed
from pipeline.devices import pick_device
from pipeline.embedded import create_embedded_run, open_embedded, run_embedded
from pipeline.executor_building import build_executor
from pipeline.incremental import wanted_items
from pipeline.planning import prepare_checked
from pipeline.run_origin import RunOrigin
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.slot_planning import PlannedSlot, plan_slot
from pipeline.spec import AuditSpec
from pipeline.spec_checks import CheckedSpec
from pipeline.trust import trust_recorded
from storage.events import local_worker
from storage.runs import get_run
from storage.schedule_slots import SlotClaim, claim_slot, due_slots, left_runs
from storage.states import RunState, SlotState


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRun:
    """What became of one slot that was due.

    Attributes:
        schedule_id: Its schedule.
        slot: Its moment; None for a run that was taken up again.
        planned: How the planning ended.
        state: How its run ended, None where there is none.
        warnings: Sentences about what will come to nothing.
    """

    schedule_id: str
    slot: float | None
    planned: PlannedSlot
    state: RunState | None = None
    warnings: list[str] = field(default_factory=list)


def run_due(
    services: Services,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_start: Callable[[str], None] = lambda _run: None,
) -> Iterator[DueRun]:
    """Yield what became of each slot that waits, once its run has ended.

    `pipeline.due_slots` has brought about those that are due.

    Args:
        services: Database and stores.
        stop: Asked at each batch boundary and between runs.
        on_start: Told of each run before it is worked on.

    Raises:
        StorageError, InfrastructureError: what a run needs failed; it is interrupted
            and can be resumed.
        ledger.errors.BrokenLedgerError: nothing more may be signed.
    """
    open_embedded(services)
    worker = local_worker("embedded")
    for schedule_id, run_id in left_runs(services.engine):
        if stop():
            return
        on_start(run_id)
        yield DueRun(
            schedule_id=schedule_id,
            slot=None,
            planned=PlannedSlot(state=SlotState.PLANNED, run_id=run_id),
            state=_take_up(services, run_id, stop),
        )
    tried: set[int] = set()
    while not stop():
        # Asked anew each time: a slot may wait for the run of the one before.
        waiting = [one for one in due_slots(services.engine) if one not in tried]
        if not waiting:
            return
        tried.add(waiting[0])
        claim = claim_slot(
            services.engine,
            waiting[0],
            worker=worker,
            lease_s=services.settings.lease_s,
        )
        if claim is not None and (done := _run_slot(services, claim, stop, on_start)):
            yield done


def _run_slot(
    services: Services,
    claim: SlotClaim,
    stop: Callable[[], bool],
    on_start: Callable[[str], None],
) -> DueRun | None:
    executors: list[AnyExecutor] = []
    warnings: list[str] = []

    def store(checked: CheckedSpec, incremental: bool) -> str:
        source = checked.written.model.source
        with trust_recorded(services, source, embedded=True):
            audit = prepare_checked(services, checked)
        with wanted_items(services, audit, incremental=incremental) as (chosen, kept):
            origin = RunOrigin(slot=claim, incremental=kept)
            run_id = create_embedded_run(services, chosen, origin=origin)
        executors.append(audit.executor)
        warnings.extend(audit.foreseen.warnings())
        return run_id

    planned = plan_slot(services, claim, store)
    if planned is None:
        return None
    state = None
    if planned.run_id is not None:
        on_start(planned.run_id)
        state = run_embedded(services, planned.run_id, executors[0], stop=stop)
    return DueRun(
        schedule_id=claim.schedule_id,
        slot=claim.slot,
        planned=planned,
        state=state,
        warnings=warnings,
    )


def _take_up(services: Services, run_id: str, stop: Callable[[], bool]) -> RunState:
    """Return how a run ended whose process had died."""
    run = get_run(services.engine, run_id)
    plan, spec = RunPlan.from_json(run.plan), AuditSpec.model_validate(run.spec)
    with trust_recorded(services, spec.model.source, f"run/{run_id}"):
        executor = build_executor(
            spec,
            plan,
            device=pick_device(plan.device),
            model_sha256=run.model_digest,
            plugins=services.settings.plugins,
            roots=services.roots_noted(plan.roots),
        )
    record_deed(services, Action.RUN_RESUMED, f"run/{run_id}")
    return run_embedded(services, run_id, executor, stop=stop)

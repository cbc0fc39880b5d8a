# SPDX-License-Identifier: Apache-2.0
"""Schedules on a queue: a tick finds what is due, a compute worker plans its run.

Planning needs torch, the inputs and the weights, and may read files for a while; so a
worker that explains does it, and rounds of the control worker stay short. A message is
a hint here too: it names a slot, whose row says whether there is anything to do.
"""

from collections.abc import Callable

import structlog

from pipeline.due_slots import open_due_slots
from pipeline.services import Services
from pipeline.slot_planning import plan_slot
from pipeline.spec_checks import CheckedSpec
from storage.errors import StorageError
from storage.schedule_slots import claim_slot, due_slots, mark_told
from storage.worker_registry import live_workers
from workers.app import COMPUTE_QUEUES
from workers.dispatch import BROKER_FAILURES, Publish, send_hints
from workers.process_state import ProcessState

log = structlog.get_logger()

#: Sends one hint about a slot: its id, a queue.
PublishSlot = Callable[[int, str], None]


def look_after_schedules(services: Services, *, publish: PublishSlot) -> None:
    """Slots that are due are there, and a worker is told of each that can be planned.

    Without live workers that explain, slots wait.
    """
    open_due_slots(services.engine, actor=services.actor)
    waiting = due_slots(services.engine, quiet_s=services.settings.hint_timeout_s)
    if not waiting:
        return
    alive = {worker.queue for worker in live_workers(services.engine)}
    # What plans occupies no device, so it had better not wait for one.
    queue = next((name for name in COMPUTE_QUEUES[::-1] if name in alive), None)
    if queue is None:
        log.warning("slots_wait_for_workers", count=len(waiting))
        return
    for slot_id in waiting:
        try:
            publish(slot_id, queue)
        except BROKER_FAILURES as exc:
            log.warning("hints_not_sent", error=type(exc).__name__)
            return
        mark_told(services.engine, slot_id)


def plan_due_slot(state: ProcessState, slot_id: int, *, publish: Publish) -> None:
    """The slot's run is stored and its shards are hinted at; or the hint was stale."""
    from workers.submission import queue_audit  # noqa: PLC0415 - torch

    services = state.services
    if state.stop_asked():
        return
    try:
        claim = claim_slot(
            services.engine,
            slot_id,
            worker=services.actor,
            lease_s=services.settings.lease_s,
        )
        if claim is None:
            log.debug("hint_stale")
            return

        def store(checked: CheckedSpec, incremental: bool) -> str:
            run_id, _warnings = queue_audit(
                services, checked, incremental=incremental, slot=claim
            )
            return run_id

        planned = plan_slot(services, claim, store)
    except StorageError as exc:
        # The lease runs out and the next tick finds the slot.
        log.warning("slot_not_planned", error=type(exc).__name__)
        return
    if planned is not None:
        log.info("slot_planned", state=planned.state.value, run=planned.run_id)
    send_hints(services, publish)

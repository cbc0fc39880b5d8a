# SPDX-License-Identifier: Apache-2.0
"""The tasks: a few lines each over plain functions, safe to deliver twice or never."""

import structlog
from celery import Task, shared_task

from workers.hints import (
    SHARD_TASK,
    SLOT_TASK,
    TICK_TASK,
    publisher,
    send_tick,
    slot_publisher,
)
from workers.process_state import process_state

log = structlog.get_logger()


@shared_task(name=SHARD_TASK, bind=True)
def work_on_shard(self: Task, shard_id: int) -> None:
    """Work on one shard, if it still needs it."""
    from workers.shard_task import run_shard  # noqa: PLC0415

    state = process_state()
    with structlog.contextvars.bound_contextvars(
        task_id=self.request.id, shard_id=shard_id
    ):
        run_shard(state, shard_id, publish=publisher(self.app))
        send_tick(self.app)


@shared_task(name=SLOT_TASK, bind=True)
def plan_slot(self: Task, slot_id: int) -> None:
    """Plan the run of a schedule's slot, if it still needs one."""
    from workers.schedules import plan_due_slot  # noqa: PLC0415

    with structlog.contextvars.bound_contextvars(
        task_id=self.request.id, slot_id=slot_id
    ):
        plan_due_slot(process_state(), slot_id, publish=publisher(self.app))


@shared_task(name=TICK_TASK, bind=True)
def tick(self: Task) -> None:
    """Look after all runs: leases, hints, schedules, finalising, the ledger."""
    from workers.recovery import look_after  # noqa: PLC0415

    look_after(
        process_state().services,
        publish=publisher(self.app),
        publish_slot=slot_publisher(self.app),
    )

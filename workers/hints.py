# SPDX-License-Identifier: Apache-2.0
"""Sending hints: ids in JSON, nothing else."""

import structlog
from celery import Celery

from workers.app import CONTROL_QUEUE
from workers.dispatch import BROKER_FAILURES, Publish

log = structlog.get_logger()

SHARD_TASK = "affidavit.shard"
SLOT_TASK = "affidavit.slot"
TICK_TASK = "affidavit.tick"


def publisher(app: Celery) -> Publish:
    """Return what sends one hint about a shard to a queue."""

    def publish(shard_id: int, queue: str) -> None:
        app.send_task(SHARD_TASK, args=[shard_id], queue=queue, retry=False)

    return publish


def slot_publisher(app: Celery) -> Publish:
    """Return what sends one hint about a slot to a queue."""

    def publish(slot_id: int, queue: str) -> None:
        app.send_task(SLOT_TASK, args=[slot_id], queue=queue, retry=False)

    return publish


def send_tick(app: Celery) -> None:
    """The control worker looks around soon, without waiting for the beat.

    If the broker is down, the beat will do.
    """
    try:
        app.send_task(TICK_TASK, queue=CONTROL_QUEUE, retry=False, expires=60)
    except BROKER_FAILURES as exc:
        log.warning("tick_not_sent", error=type(exc).__name__)

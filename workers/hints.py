# SPDX-License-Identifier: Apache-2.0
"""Sending hints: ids in JSON, nothing else."""

from celery import Celery

from workers.app import CONTROL_QUEUE
from workers.dispatch import Publish

SHARD_TASK = "affidavit.shard"
TICK_TASK = "affidavit.tick"


def publisher(app: Celery) -> Publish:
    """Return what sends one hint about a shard to a queue."""

    def publish(shard_id: int, queue: str) -> None:
        app.send_task(SHARD_TASK, args=[shard_id], queue=queue, retry=False)

    return publish


def send_tick(app: Celery) -> None:
    """The control worker looks around soon, without waiting for the beat."""
    app.send_task(TICK_TASK, queue=CONTROL_QUEUE, retry=False, expires=60)

# SPDX-License-Identifier: Apache-2.0
"""What a worker process tells of itself, and what it looks after while it does."""

from dataclasses import replace

import sqlalchemy as sa
import structlog

from pipeline.settings import Settings
from storage.clock import CLOCK_TOLERANCE_S, clock_ahead_s
from storage.installation import installation_id
from storage.worker_registry import Announcement
from workers.app import CONTROL_QUEUE
from workers.broker_owner import renew_hold
from workers.metrics import process_metrics
from workers.metrics_door import MetricsDoor

log = structlog.get_logger()


class Telling:
    """What a worker says of itself at each announcement, and looks at before it.

    Its metrics are served as soon as their port is free; a clock that is off is in the
    log once; a control worker keeps the broker marked as this installation's.
    """

    def __init__(
        self, settings: Settings, engine: sa.Engine, worker: Announcement
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._worker = worker
        self._clock_is_off = False
        self._door = MetricsDoor(settings, queue=worker.queue)
        if settings.metrics_port is not None:
            process_metrics().introduce(worker.queue, worker.version)

    def now(self) -> Announcement:
        """Return the announcement that is right at this moment.

        Raises:
            StorageError: the database does not answer.
        """
        url = self._door.open(self._engine)
        ahead = clock_ahead_s(self._engine)
        self._watch_clock(ahead)
        if self._worker.queue == CONTROL_QUEUE:
            renew_hold(self._settings, installation_id(self._engine))
        return replace(self._worker, metrics_url=url, clock_ahead_s=ahead)

    def _watch_clock(self, ahead_s: float) -> None:
        if self._settings.metrics_port is not None:
            process_metrics().clock(ahead_s)
        is_off = abs(ahead_s) > CLOCK_TOLERANCE_S
        if is_off and not self._clock_is_off:
            log.warning("clock_off", seconds=round(ahead_s, 1))
        self._clock_is_off = is_off

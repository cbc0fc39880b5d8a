# SPDX-License-Identifier: Apache-2.0
"""What happens when worker processes start and stop: logs, announcements, stop flag."""

import os
import threading
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog
from celery import signals

from pipeline.errors import InfrastructureError
from pipeline.logs import configure_library_logging, configure_logging
from pipeline.settings import Settings, load_settings
from pipeline.software import software_versions
from storage.clock import CLOCK_TOLERANCE_S, clock_ahead_s
from storage.engine import create_engine
from storage.errors import StorageError
from storage.events import local_worker
from storage.installation import installation_id
from storage.worker_registry import Announcement, announce, withdraw
from workers.app import CONTROL_QUEUE
from workers.broker_owner import renew_hold
from workers.process_state import NAME_VARIABLE, QUEUE_VARIABLE, STOP_FILE_VARIABLE

if TYPE_CHECKING:
    from workers.metrics import WorkerMetrics
    from workers.metrics_door import MetricsDoor

log = structlog.get_logger()

#: Seconds between two announcements of a live worker.
ANNOUNCE_S = 10.0

#: Longest wait for the last word to the database when a worker stops.
WITHDRAW_S = 5.0

_stopping = threading.Event()
_announcers: list[threading.Thread] = []


@signals.setup_logging.connect
def set_up_logging(**_kwargs: Any) -> None:
    """Celery's own lines go the same way as ours."""
    settings = load_settings()
    configure_logging(settings)
    configure_library_logging(settings)


@signals.worker_process_init.connect
def start_announcing(**_kwargs: Any) -> None:
    """This pool process says that it is alive, now and again."""
    settings = load_settings()
    configure_logging(settings)
    configure_library_logging(settings)
    announcer = threading.Thread(
        target=_announce_for_ever, args=(settings,), name="announce", daemon=True
    )
    announcer.start()
    _announcers.append(announcer)


@signals.worker_process_shutdown.connect
def stop_announcing(**_kwargs: Any) -> None:
    """This pool process is no longer counted as alive."""
    _stopping.set()
    for announcer in _announcers:
        # A daemon thread ends with its process, perhaps before it has withdrawn.
        announcer.join(WITHDRAW_S)


@signals.worker_shutting_down.connect
def ask_to_stop(**_kwargs: Any) -> None:
    """The pool process gives its shard back at the next batch boundary."""
    path = os.environ.get(STOP_FILE_VARIABLE)
    if path is not None:
        Path(path).touch()


def _announce_for_ever(settings: Settings) -> None:
    worker = describe_worker(settings)
    engine = create_engine(settings.resolved_database_url)
    telling = Telling(settings, engine, worker)
    while True:
        try:
            announce(engine, telling.now())
        except StorageError:
            log.warning("announcement_failed")
        if _stopping.wait(ANNOUNCE_S):
            break
    try:
        withdraw(engine, worker.name)
    except StorageError:
        log.warning("announcement_failed")


def describe_worker(settings: Settings) -> Announcement:
    """Return what this process says of itself."""
    name = os.environ.get(NAME_VARIABLE, f"worker-{os.getpid()}")
    queue = os.environ.get(QUEUE_VARIABLE, CONTROL_QUEUE)
    device = "none"
    if queue != CONTROL_QUEUE:
        from pipeline.devices import pick_device  # noqa: PLC0415

        try:
            device = pick_device("auto", settings.device).type
        except InfrastructureError:
            device = "missing"
    given = settings.extra_roots
    roots = (Path.cwd(),) if given is None else given
    return Announcement(
        name=name,
        queue=queue,
        device=device,
        version=metadata.version("affidavit"),
        roots=tuple(str(root) for root in roots),
        actor=local_worker(name),
        software=software_versions(),
    )


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
        self._metrics: WorkerMetrics | None = None
        self._door: MetricsDoor | None = None
        if settings.metrics_port is not None:
            from workers.metrics import process_metrics  # noqa: PLC0415
            from workers.metrics_door import MetricsDoor  # noqa: PLC0415

            self._metrics = process_metrics()
            self._metrics.introduce(worker.queue, worker.version)
            self._door = MetricsDoor(settings, self._metrics, queue=worker.queue)

    def now(self) -> Announcement:
        """Return the announcement that is right at this moment.

        Raises:
            StorageError: the database does not answer.
        """
        url = None if self._door is None else self._door.open(self._engine)
        ahead = clock_ahead_s(self._engine)
        self._watch_clock(ahead)
        if self._worker.queue == CONTROL_QUEUE:
            renew_hold(self._settings, installation_id(self._engine))
        return replace(self._worker, metrics_url=url, clock_ahead_s=ahead)

    def _watch_clock(self, ahead_s: float) -> None:
        if self._metrics is not None:
            self._metrics.clock(ahead_s)
        is_off = abs(ahead_s) > CLOCK_TOLERANCE_S
        if is_off and not self._clock_is_off:
            log.warning("clock_off", seconds=round(ahead_s, 1))
        self._clock_is_off = is_off

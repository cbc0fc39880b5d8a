# SPDX-License-Identifier: Apache-2.0
"""What happens when worker processes start and stop: logs, announcements, stop flag."""

import os
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import structlog
from celery import signals

from pipeline.errors import InfrastructureError
from pipeline.logs import configure_library_logging, configure_logging
from pipeline.settings import Settings, load_settings
from pipeline.software import software_versions
from storage.engine import create_engine
from storage.errors import StorageError
from storage.events import local_worker
from storage.worker_registry import Announcement, announce, withdraw
from workers.app import CONTROL_QUEUE
from workers.process_state import NAME_VARIABLE, QUEUE_VARIABLE, STOP_FILE_VARIABLE
from workers.telling import Telling

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

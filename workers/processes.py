# SPDX-License-Identifier: Apache-2.0
"""Starting a worker or the beat in this process, until it is told to stop."""

import os
import re
import secrets
import tempfile
from pathlib import Path

from pipeline.errors import SpecError
from pipeline.services import Services
from pipeline.settings import Settings
from pipeline.store_probe import require_store
from storage.engine import create_engine
from storage.installation import installation_id
from storage.schema import require_current
from workers.app import COMPUTE_QUEUES, CONTROL_QUEUE, create_app
from workers.broker import require_broker
from workers.broker_owner import require_own_broker
from workers.broker_tls import broker_tls
from workers.log_lines import say_in_lines_only, wants_lines
from workers.process_state import NAME_VARIABLE, QUEUE_VARIABLE, STOP_FILE_VARIABLE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


def new_name(queue: str) -> str:
    """Return a random name for a worker of the queue."""
    return f"{queue}-{secrets.token_hex(3)}"


def run_worker(
    settings: Settings, *, queue: str, name: str | None, quiet: bool = False
) -> int:
    """Return the exit code of a Celery worker with one pool process.

    Args:
        settings: The installation's settings.
        queue: What it works on.
        name: Its name in registry and ledger; None takes a random one.
        quiet: Whether it writes nothing to standard output, at a terminal neither.

    Raises:
        SpecError: there is no such queue, or the name is not allowed.
        InfrastructureError: the broker does not answer, or is another deployment's.
        SchemaOutdatedError: the database has not this version's tables.
        ObjectStoreError: the store is not there, or cannot be written to.
    """
    queues = (*COMPUTE_QUEUES, CONTROL_QUEUE)
    if queue not in queues:
        raise SpecError(f"There is no queue '{queue}'; there are {', '.join(queues)}.")
    app = create_app(settings)
    require_broker(str(app.conf.broker_url), broker_tls(settings))
    chosen = name or new_name(queue)
    if not _NAME.fullmatch(chosen):
        raise SpecError(
            "The worker's name may have up to 100 letters, digits, dots, dashes and "
            "underscores; it stands in the ledger."
        )
    _require_parts(settings)
    with tempfile.TemporaryDirectory(prefix="affidavit-worker-") as folder:
        # Pool processes are spawned afresh and read their settings from here.
        os.environ["AFFIDAVIT_HOME"] = str(settings.home.absolute())
        os.environ[NAME_VARIABLE] = chosen
        os.environ[QUEUE_VARIABLE] = queue
        os.environ[STOP_FILE_VARIABLE] = str(Path(folder) / "stop")
        arguments = [*_quietly(settings, quiet), "worker", "--queues", queue]
        arguments += ["--concurrency", "1"]
        arguments += ["--pool", "prefork", "--hostname", f"{chosen}@%h"]
        arguments += ["--without-gossip", "--without-mingle"]
        arguments += ["--loglevel", settings.log_level]
        try:
            app.worker_main(arguments)
        except SystemExit as exc:
            return exc.code if isinstance(exc.code, int) else 0
    return 0


def _quietly(settings: Settings, quiet: bool) -> list[str]:
    """Return Celery's options for an output that holds log lines alone, if wanted."""
    if not quiet and not wants_lines(settings):
        return []
    say_in_lines_only()
    return ["--quiet"]


def _require_parts(settings: Settings) -> None:
    """Nothing happens if tables and store are there and the broker is ours alone."""
    services = Services(settings=settings, actor="worker/starting")
    try:
        require_current(services.engine)
        require_own_broker(settings, installation_id(services.engine))
        require_store(services.store)
    finally:
        services.close()


def _require_own_broker(settings: Settings) -> None:
    engine = create_engine(settings.resolved_database_url)
    try:
        require_own_broker(settings, installation_id(engine))
    finally:
        engine.dispose()


def run_beat(settings: Settings, *, quiet: bool = False) -> int:
    """Return the exit code of a beat that only ticks; two beats do no harm.

    Args:
        settings: The installation's settings.
        quiet: Whether it writes nothing to standard output, at a terminal neither.

    Raises:
        InfrastructureError: the broker does not answer.
    """
    app = create_app(settings)
    require_broker(str(app.conf.broker_url), broker_tls(settings))
    _require_own_broker(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    arguments = [*_quietly(settings, quiet), "beat"]
    arguments += ["--loglevel", settings.log_level]
    app.start([*arguments, "--pidfile", ""])
    return 0

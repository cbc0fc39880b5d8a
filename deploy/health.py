# SPDX-License-Identifier: Apache-2.0
"""Exit 0 while the container's process does its part; compose asks every half minute.

`worker`: this container's worker has announced itself in the database lately. A
process that exists but hangs announces nothing. `beat`: the broker that takes its ticks
answers. Neither loads torch, so a check costs a second and little memory.
"""

import socket
import sys

import redis

from pipeline.errors import AuditError
from pipeline.settings import Settings, load_settings
from storage.engine import create_engine
from storage.errors import StorageError
from storage.worker_registry import live_workers
from workers.broker import broker_client


def worker_problem(settings: Settings, host: str) -> str | None:
    """Return why no worker of this host counts as alive, or None if one does."""
    engine = create_engine(settings.resolved_database_url)
    try:
        names = [worker.name for worker in live_workers(engine)]
    except StorageError as exc:
        return str(exc)
    finally:
        engine.dispose()
    if any(name.endswith(f"-{host}") for name in names):
        return None
    return f"no worker named ...-{host} has announced itself lately"


def broker_problem(settings: Settings) -> str | None:
    """Return why beat could not send a tick, or None if it could."""
    if settings.broker_url is None:
        return "AFFIDAVIT_BROKER_URL is not set"
    try:
        with broker_client(settings) as client:
            client.ping()
    except (redis.RedisError, AuditError) as exc:
        return f"the broker does not answer ({type(exc).__name__})"
    return None


def main(part: str) -> str | None:
    """Return what is wrong with the part, or None."""
    try:
        settings = load_settings()
    except AuditError as exc:
        return str(exc)
    if part == "worker":
        return worker_problem(settings, socket.gethostname())
    if part == "beat":
        return broker_problem(settings)
    return f"unknown part {part!r}: expected worker or beat"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

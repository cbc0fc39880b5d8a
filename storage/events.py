# SPDX-License-Identifier: Apache-2.0
"""Ledger entries as the rest of the program writes them: one call, one entry."""

import getpass
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from ledger.entries import Action, Detail, Entry
from storage.ledger_writer import append


def record(
    session: Session,
    action: Action,
    obj: str,
    *,
    actor: str,
    digest: str | None = None,
    details: Mapping[str, Detail] | None = None,
) -> None:
    """One ledger entry is part of the caller's transaction.

    Args:
        session: The transaction that also makes the change the entry tells of.
        action: What was done.
        obj: What it was done to, e.g. `run/<id>/shard/3`; never personal data.
        actor: Who did it: `user/<login>` or `worker/<name>`.
        digest: SHA-256 of what the action produced or used.
        details: Facts without floats and without personal data.
    """
    entry = Entry(
        at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        actor=actor,
        action=action,
        object=obj,
        digest=digest,
        details=dict(details or {}),
    )
    append(session, entry)


def local_user() -> str:
    """Return the actor name of the person at the command line."""
    try:
        return f"user/{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user id without a name
        return f"user/uid-{os.getuid()}"


def local_worker(name: str) -> str:
    """Return the actor name of a worker process on this machine."""
    return f"worker/{name}@{socket.gethostname()}-{os.getpid()}"

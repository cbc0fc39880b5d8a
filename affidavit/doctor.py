# SPDX-License-Identifier: Apache-2.0
"""Checks of an installation: each part, what is wrong with it, and how to mend it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

from affidavit.run_facts import missing_database
from ledger.errors import LedgerError
from pipeline.errors import AuditError
from pipeline.services import Services
from storage.errors import StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The state of one part."""

    part: str
    ok: bool
    says: str
    mend: str = ""
    #: It works, but something may go wrong later; not good enough for production.
    warning: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def examine(services: Services, *, production: bool = False) -> list[Finding]:
    """Return one finding for each part of the installation.

    Args:
        services: The installation.
        production: Whether a warning counts as a fault.
    """
    checks: list[tuple[str, Callable[[Services], Finding]]] = [
        ("settings", _settings),
        ("database", _database),
        ("object store", _store),
        ("signing key", _signing_key),
        ("access", _access),
        ("broker", _broker),
        ("workers", _workers),
        ("device", _device),
        ("clock", _clock),
        ("encryption", _encryption),
        ("secrets", _secrets),
        ("messages", _messages),
        ("anchors", _anchors),
    ]
    if services.settings.tiles:
        checks.append(("tiles", _tiles))
    findings = []
    for part, check in checks:
        try:
            found = check(services)
            findings.append(
                replace(found, ok=False) if production and found.warning else found
            )
        except (StorageError, AuditError, LedgerError, OSError) as exc:
            findings.append(
                Finding(part=part, ok=False, says=str(exc), mend=_MEND[part])
            )
    return findings


#: What helps where a part does not even answer.
_MEND = {
    "settings": "correct the variable",
    "database": "start the server, or set AFFIDAVIT_DATABASE_URL to another",
    "object store": "give this user access to the folder or bucket, or set "
    "AFFIDAVIT_OBJECT_STORE_URL to another",
    "signing key": "make the file readable by its owner alone (chmod 600), or set "
    "AFFIDAVIT_SIGNING_KEY to another",
    "access": "mend the database first",
    "broker": "start Redis, or set AFFIDAVIT_BROKER_URL to another",
    "workers": "mend the database first",
    "device": "set AFFIDAVIT_DEVICE to auto",
    "clock": "mend the database first",
    "encryption": "correct the URL",
    "secrets": "correct the URL",
    "messages": "correct the setting",
    "anchors": "correct AFFIDAVIT_ANCHORS",
    "tiles": "give the ledger a store of its own, or mend the store",
}


def _settings(services: Services) -> Finding:
    from pipeline.settings import misspelt_variables  # noqa: PLC0415

    misspelt = misspelt_variables()
    if not misspelt:
        home = services.settings.home.absolute()
        return Finding(part="settings", ok=True, says=f"home is {home}")
    named = ", ".join(f"{a} (did you mean {b}?)" for a, b in misspelt.items())
    return Finding(
        part="settings",
        ok=False,
        says=f"the environment sets what is no setting: {named}",
        mend="correct the name, or unset it; docs/reference/settings.md lists all",
    )


def _database(services: Services) -> Finding:
    from storage.schema import HEAD, current_revision  # noqa: PLC0415

    missing = missing_database(services)
    if missing is not None:
        return Finding(
            part="database",
            ok=True,
            says=f"{missing} is not there yet",
            mend="the first 'affidavit run' or 'affidavit init' makes it",
        )
    revision = current_revision(services.engine)
    kind = services.engine.dialect.name
    if revision == HEAD:
        return Finding(part="database", ok=True, says=f"{kind} at migration {revision}")
    return Finding(
        part="database",
        ok=False,
        says=f"{kind} is at migration {revision or 'none'}, needed is {HEAD}",
        mend="run: affidavit db upgrade",
    )


def _store(services: Services) -> Finding:
    from pipeline.store_probe import require_store  # noqa: PLC0415

    require_store(services.store)
    where = services.settings.resolved_object_store_url
    return Finding(part="object store", ok=True, says=f"writes and reads {where}")


def _signing_key(services: Services) -> Finding:
    from ledger.key_file import load_signing_key  # noqa: PLC0415

    path = services.settings.resolved_signing_key
    if not path.exists():
        return Finding(
            part="signing key",
            ok=True,
            says=f"{path} is not there; only the process that signs needs it",
            mend="make it with: affidavit init (or let the control worker make it)",
        )
    key = load_signing_key(path, services.settings.ledger_origin)
    return Finding(part="signing key", ok=True, says=f"{path} holds {key.verifier}")


def _access(services: Services) -> Finding:
    from pipeline.access.authentication import has_principals  # noqa: PLC0415

    if has_principals(services):
        return Finding(part="access", ok=True, says="there are principals with roles")
    return Finding(
        part="access",
        ok=True,
        warning=True,
        says="there are no principals: whoever reaches the database may do everything",
        mend="where several people work, begin with: affidavit principal add NAME "
        "--role admin",
    )


def _broker(services: Services) -> Finding:
    url = services.settings.broker_url
    if url is None:
        return Finding(
            part="broker",
            ok=True,
            says="none is set: only embedded runs (affidavit run) work",
            mend="for workers set AFFIDAVIT_BROKER_URL=redis://...",
        )
    from storage.installation import installation_id  # noqa: PLC0415
    from workers.broker import inspect_broker  # noqa: PLC0415
    from workers.broker_owner import require_own_broker  # noqa: PLC0415
    from workers.broker_tls import broker_tls  # noqa: PLC0415

    settings = services.settings
    problems = inspect_broker(url.get_secret_value(), broker_tls(settings))
    with suppress(StorageError):  # which has a finding of its own
        if missing_database(services) is None:
            require_own_broker(settings, installation_id(services.engine))
    if not problems:
        return Finding(part="broker", ok=True, says="Redis answers and keeps its data")
    return Finding(
        part="broker",
        ok=not any(problem.is_serious for problem in problems),
        warning=True,
        says="; ".join(problem.says for problem in problems),
        mend=f"set it in redis.conf: {', '.join(p.mend for p in problems)}",
    )


def _workers(services: Services) -> Finding:
    from storage.worker_registry import live_workers  # noqa: PLC0415

    if services.settings.broker_url is None:
        return Finding(part="workers", ok=True, says="not needed for embedded runs")
    found = live_workers(services.engine)
    queues = {worker.queue for worker in found}
    if {"control"} <= queues and queues & {"cpu", "gpu"}:
        names = ", ".join(f"{w.name} ({w.queue}, {w.device})" for w in found)
        return Finding(part="workers", ok=True, says=names)
    return Finding(
        part="workers",
        ok=False,
        says=f"alive on queues: {', '.join(sorted(queues)) or 'none'}",
        mend="start: affidavit worker --queue control, and --queue cpu or gpu, and "
        "affidavit beat",
    )


def _device(services: Services) -> Finding:
    from pipeline.devices import pick_device  # noqa: PLC0415

    device = pick_device("auto", services.settings.device)
    return Finding(
        part="device",
        ok=True,
        says=f"{device} with torch {metadata.version('torch')}",
    )


def _clock(services: Services) -> Finding:
    from storage.clock import CLOCK_TOLERANCE_S, clock_ahead_s  # noqa: PLC0415

    if services.engine.dialect.name == "sqlite":
        return Finding(part="clock", ok=True, says="the database goes by this clock")
    ahead = clock_ahead_s(services.engine)
    word = "ahead of" if ahead > 0 else "behind"
    if abs(ahead) <= CLOCK_TOLERANCE_S:
        return Finding(part="clock", ok=True, says="agrees with the database's")
    return Finding(
        part="clock",
        ok=True,
        warning=True,
        says=f"is {abs(ahead):.0f} s {word} the database's; leases go by the latter, "
        "but log lines and ledger entries tell a wrong time",
        mend="let both machines follow the same time server (NTP)",
    )


def _encryption(services: Services) -> Finding:
    from affidavit.production import plain_text_problems  # noqa: PLC0415

    return _judged(
        "encryption",
        plain_text_problems(services),
        good="nothing leaves this machine in plain text",
        mend="use TLS; docs/operations.md says how for each server",
    )


def _secrets(services: Services) -> Finding:
    from affidavit.production import secret_problems  # noqa: PLC0415

    return _judged(
        "secrets",
        secret_problems(services),
        good="no server has a password that everybody tries",
        mend="give each server a long random password",
    )


def _messages(services: Services) -> Finding:
    from affidavit.production import serializer_problems  # noqa: PLC0415

    return _judged(
        "messages",
        serializer_problems(services),
        good="workers take JSON alone",
        mend="let Celery's settings be as they are in workers/app.py",
    )


def _anchors(services: Services) -> Finding:
    from affidavit.production import anchor_problems  # noqa: PLC0415

    if missing_database(services) is not None:
        return Finding(part="anchors", ok=True, says="there is no ledger yet")
    window = services.settings.anchor_interval_s
    return _judged(
        "anchors",
        anchor_problems(services),
        good=f"checkpoints lie out of reach; the exposure window is {window:.0f} s",
        mend="set AFFIDAVIT_ANCHORS to a bucket with Object Lock",
    )


def _tiles(services: Services) -> Finding:
    from pipeline.tile_publishing import tile_problems  # noqa: PLC0415

    if missing_database(services) is not None:
        return Finding(part="tiles", ok=True, says="there is no ledger yet")
    return _judged(
        "tiles",
        tile_problems(services),
        good="the ledger is published as files",
        mend="look whether the process that signs may write ledger/ in the store",
    )


def _judged(part: str, problems: list[str], *, good: str, mend: str) -> Finding:
    if not problems:
        return Finding(part=part, ok=True, says=good)
    return Finding(
        part=part, ok=True, warning=True, says="; ".join(problems), mend=mend
    )

# SPDX-License-Identifier: Apache-2.0
"""What a laptop may do and a production system may not: plain text, default secrets.

Each check tells it as a warning; `affidavit doctor --production` counts it as a fault.
"""

from urllib.parse import SplitResult, urlsplit

from pipeline.services import Services
from pipeline.settings import Settings

_LOOPBACK = frozenset({"", "localhost", "127.0.0.1", "::1"})

#: Modes in which PostgreSQL's certificate is checked.
_CHECKED_MODES = frozenset({"verify-ca", "verify-full"})

#: Passwords that everybody tries first.
_DEFAULTS = frozenset(
    {
        "",
        "admin",
        "affidavit",
        "changeme",
        "change-me",
        "guest",
        "minioadmin",
        "password",
        "postgres",
        "redis",
        "secret",
        "test",
    }
)


def plain_text_problems(services: Services) -> list[str]:
    """Return which connections beyond this machine are not encrypted and checked."""
    settings = services.settings
    problems = []
    broker = _broker(settings)
    if broker is not None and broker.scheme != "rediss" and _is_beyond(broker):
        problems.append("the broker is reached in plain text (use rediss://)")
    database = urlsplit(settings.resolved_database_url)
    if database.scheme.startswith("postgres") and _is_beyond(database):
        mode = services.engine.url.query.get("sslmode")
        if mode not in _CHECKED_MODES:
            problems.append(
                "PostgreSQL's certificate is not checked (use ?sslmode=verify-full)"
            )
    for name, endpoint in (
        ("the object store", settings.s3_endpoint_url),
        ("the anchors' server", settings.anchor_s3_endpoint_url),
    ):
        parts = urlsplit(endpoint or "")
        if parts.scheme == "http" and _is_beyond(parts):
            problems.append(f"{name} is reached in plain text (use https://)")
    return problems


def secret_problems(services: Services) -> list[str]:
    """Return which servers are protected by no secret, or by one that all know."""
    settings = services.settings
    problems = []
    broker = _broker(settings)
    if broker is not None and (broker.password or "") in _DEFAULTS:
        problems.append("the broker has no password, or one that everybody tries")
    url = services.engine.url
    if url.get_backend_name() == "postgresql" and _is_default(url.password, url.query):
        problems.append("PostgreSQL has no password, or one that everybody tries")
    for name, secret in (
        ("the object store", settings.s3_secret_access_key),
        ("the anchors' server", settings.anchor_s3_secret_access_key),
    ):
        if secret is not None and secret.get_secret_value() in _DEFAULTS:
            problems.append(f"{name} has a secret key that everybody tries")
    return problems


def _is_default(password: object, query: object) -> bool:
    # A client certificate or a password file stands in for a password.
    others = ("sslcert", "passfile", "service")
    if password is None and any(name in str(query) for name in others):
        return False
    return str(password or "") in _DEFAULTS


def serializer_problems(services: Services) -> list[str]:
    """Return what the workers would take from the queue beside plain JSON."""
    from workers.app import create_app  # noqa: PLC0415 - Celery

    if services.settings.broker_url is None:
        return []
    conf = create_app(services.settings).conf
    taken = set(conf.accept_content) | set(conf.result_accept_content or ())
    problems = [
        f"messages in {form} are accepted"
        for form in sorted(taken - {"json", "application/json"})
    ]
    problems += [
        f"{name} is {conf[name]}"
        for name in ("task_serializer", "result_serializer", "event_serializer")
        if conf[name] != "json"
    ]
    return problems


def anchor_problems(services: Services) -> list[str]:
    """Return what keeps the ledger from being vouched for by a place out of reach."""
    from pipeline.anchoring import anchor_states  # noqa: PLC0415 - boto3, perhaps

    interval_s = services.settings.anchor_interval_s
    if not services.settings.anchor_urls:
        return ["no anchor is set: who has the database and the key could rewrite all"]
    problems = []
    for state in anchor_states(services):
        if state.age_s is None:
            problems.append(f"{state.place} holds no checkpoint yet")
        elif state.age_s > 2 * interval_s and _has_grown(services, state.entries):
            problems.append(
                f"{state.place} got its last checkpoint {state.age_s:.0f} s ago, "
                f"though the interval is {interval_s:.0f} s"
            )
    return problems


def _has_grown(services: Services, size: int) -> bool:
    from storage.ledger_writer import ledger_size  # noqa: PLC0415

    return ledger_size(services.engine) > size


def _broker(settings: Settings) -> SplitResult | None:
    url = settings.broker_url
    return None if url is None else urlsplit(url.get_secret_value())


def _is_beyond(parts: SplitResult) -> bool:
    """Whether a server is on another machine."""
    return (parts.hostname or "") not in _LOOPBACK

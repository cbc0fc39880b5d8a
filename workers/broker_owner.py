# SPDX-License-Identifier: Apache-2.0
"""Whose broker it is: two deployments with one prefix would eat each other's hints.

A hint is the number of a shard, which every database has. So the broker holds the id
of the installation that uses the prefix; whoever finds another one there stops. The key
is renewed while control workers run and goes a day after the last of them.
"""

from urllib.parse import urlsplit

import redis
import structlog

from pipeline.errors import InfrastructureError
from pipeline.settings import Settings
from workers.broker import broker_client

log = structlog.get_logger()

#: Seconds after which a broker that nobody has renewed his claim on is free.
HOLD_S = 86_400


def require_own_broker(settings: Settings, installation: str) -> None:
    """The broker is marked as this installation's.

    Raises:
        InfrastructureError: another installation uses it with the same prefix.
    """
    url = settings.broker_url
    if url is None:
        return
    try:
        owner = _hold(settings, installation)
    except redis.RedisError as exc:
        raise InfrastructureError(
            "The broker broke off; check AFFIDAVIT_BROKER_URL and that Redis runs."
        ) from exc
    if owner == installation:
        return
    parts = urlsplit(url.get_secret_value())
    raise InfrastructureError(
        f"The broker at {parts.hostname}:{parts.port or 6379}{parts.path} is in use by "
        f"another installation with the prefix '{settings.broker_prefix}'; set "
        "AFFIDAVIT_BROKER_PREFIX to another, or another database number in "
        "AFFIDAVIT_BROKER_URL (if that installation is gone, delete the key "
        f"'{owner_key(settings)}' there)."
    )


def renew_hold(settings: Settings, installation: str) -> None:
    """The mark stays for another day; the log says so if it is another's by now."""
    if settings.broker_url is None:
        return
    try:
        owner = _hold(settings, installation)
    except redis.RedisError:
        # The broker is away: hints wait, and so does this.
        return
    if owner != installation:
        log.critical("broker_shared")


def owner_key(settings: Settings) -> str:
    """Return the key that holds the id."""
    return f"{settings.broker_prefix}installation"


def _hold(settings: Settings, installation: str) -> str:
    """Return whose the broker is; ours from now on if it was nobody's."""
    key = owner_key(settings)
    with broker_client(settings) as client:
        client.set(key, installation, nx=True, ex=HOLD_S)
        owner = str(client.get(key) or installation)
        if owner == installation:
            client.expire(key, HOLD_S)
    return owner

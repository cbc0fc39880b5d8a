# SPDX-License-Identifier: Apache-2.0
"""Is Redis there, and is it set up so that it keeps what it was told?"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import redis

from pipeline.errors import InfrastructureError
from pipeline.settings import Settings
from workers.broker_tls import Tls, broker_tls


def require_broker(url: str, tls: Tls | None = None) -> None:
    """Nothing happens if the broker answers.

    Raises:
        InfrastructureError: it does not; one sentence, without the password.
    """
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        # The cause would show the URL, and with it the password.
        raise InfrastructureError(
            "The broker URL is not valid; expected redis://host:port/0 or "
            "rediss://host:port/0 in AFFIDAVIT_BROKER_URL."
        ) from None
    if parts.scheme not in {"redis", "rediss"}:
        raise InfrastructureError(
            f"The broker URL has the scheme '{parts.scheme}'; expected "
            "redis://host:port/0 or rediss://host:port/0."
        )
    try:
        with _client(url, tls) as client:
            client.ping()
    except redis.AuthenticationError as exc:
        raise InfrastructureError(
            f"The broker at {place} refuses the password in AFFIDAVIT_BROKER_URL."
        ) from exc
    except (redis.RedisError, ValueError, OSError) as exc:
        if _is_about_trust(exc):
            raise InfrastructureError(
                f"The certificate of the broker at {place} is not accepted; set "
                "AFFIDAVIT_BROKER_CA to the CA that signed it, and use the name that "
                "it was made for in AFFIDAVIT_BROKER_URL."
            ) from None
        if parts.scheme == "rediss" and _broke_off(exc):
            raise InfrastructureError(
                f"The broker at {place} broke the TLS connection off; it may want a "
                "client certificate (AFFIDAVIT_BROKER_CERTIFICATE, AFFIDAVIT_BROKER_KEY"
                "), or speak no TLS."
            ) from None
        raise InfrastructureError(
            f"The broker at {place} does not answer; check AFFIDAVIT_BROKER_URL and "
            "that Redis is running."
        ) from exc


@dataclass(frozen=True, slots=True)
class BrokerProblem:
    """What is wrong with one setting of the broker.

    Attributes:
        says: What it is and what follows, as a phrase.
        mend: The line for redis.conf.
        is_serious: Whether work is lost time and again, and not only after a restart.
    """

    says: str
    mend: str
    is_serious: bool


def inspect_broker(url: str, tls: Tls | None = None) -> list[BrokerProblem]:
    """Return what is wrong with the broker's settings.

    Raises:
        InfrastructureError: the broker does not answer.
    """
    require_broker(url, tls)
    problems = []
    with _client(url, tls) as client:
        try:
            policy = client.config_get("maxmemory-policy")["maxmemory-policy"]
            append_only = client.config_get("appendonly")["appendonly"]
        except (redis.RedisError, KeyError):
            # Managed servers often forbid CONFIG; then there is nothing to say.
            return []
    if policy != "noeviction":
        problems.append(
            BrokerProblem(
                f"maxmemory-policy is {policy}, so hints may be evicted at any time",
                "maxmemory-policy noeviction",
                is_serious=True,
            )
        )
    if append_only != "yes":
        problems.append(
            BrokerProblem(
                "appendonly is off, so a restart of Redis forgets hints; they are sent "
                "again after AFFIDAVIT_HINT_TIMEOUT_S, and no run is lost",
                "appendonly yes",
                is_serious=False,
            )
        )
    return problems


def broker_client(settings: Settings) -> redis.Redis:
    """Return a client of the installation's broker; nothing is connected yet.

    Raises:
        InfrastructureError: no broker is set.
    """
    if settings.broker_url is None:
        raise InfrastructureError("No broker is set; set AFFIDAVIT_BROKER_URL.")
    return _client(settings.broker_url.get_secret_value(), broker_tls(settings))


def _client(url: str, tls: Tls | None) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=3,
        socket_timeout=5,
        decode_responses=True,
        **(tls or {}),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_about_trust(error: BaseException) -> bool:
    """Whether TLS found the certificate wrong."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error) or any(
        isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)
    )


def _broke_off(error: BaseException) -> bool:
    """Whether there was a server, which ended the connection."""
    return "Connection closed by server" in str(error) or any(
        isinstance(cause, ssl.SSLError | ConnectionResetError | BrokenPipeError)
        for cause in _causes(error)
    )

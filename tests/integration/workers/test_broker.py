# SPDX-License-Identifier: Apache-2.0
"""What is said about a broker: absent, locked, mistyped or forgetful."""

from collections.abc import Iterator

import pytest
import redis

from pipeline.errors import InfrastructureError
from tests.support.processes import free_port
from workers.broker import inspect_broker, require_broker


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    """A client of the broker, whose settings are restored at the end."""
    with redis.Redis.from_url(broker_url) as found:
        yield found
        found.config_set("maxmemory-policy", "noeviction")
        found.config_set("appendonly", "yes")


def test_a_good_broker_has_no_problems(broker_url: str) -> None:
    """Redis that keeps what it is told is accepted without a word."""
    require_broker(broker_url)
    assert inspect_broker(broker_url) == []


def test_a_forgetful_broker_is_described(broker_url: str, client: redis.Redis) -> None:
    """Eviction and a missing append-only file are each a finding."""
    client.config_set("maxmemory-policy", "allkeys-lru")
    (finding,) = inspect_broker(broker_url)
    assert "allkeys-lru" in finding.says
    assert finding.is_serious
    client.config_set("appendonly", "no")
    assert len(inspect_broker(broker_url)) == 2
    client.config_set("maxmemory-policy", "noeviction")
    (finding,) = inspect_broker(broker_url)
    assert "appendonly" in finding.says
    assert not finding.is_serious


def test_a_broker_that_forbids_questions_has_no_findings(
    broker_url: str, client: redis.Redis
) -> None:
    """A managed server without CONFIG is used all the same."""
    client.acl_setuser(
        "guest", enabled=True, passwords=["+pw"], keys=["*"], commands=["+ping"]
    )
    address = broker_url.rpartition("@")[2]
    assert inspect_broker(f"redis://guest:pw@{address}") == []
    client.acl_deluser("guest")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:very-secret@127.0.0.1:{port}/0", "does not answer"),
        ("redis://:very-secret@no-such-host.invalid/0", "does not answer"),
        ("redis://:very-secret@127.0.0.1:port/0", "is not valid"),
        ("redis://:very-secret@[::1/0", "is not valid"),
        ("redis://:very-secret@127.0.0.1:{port}/zero", "does not answer"),
        ("amqp://user:very-secret@127.0.0.1/", "scheme 'amqp'"),
        ("very-secret", "scheme ''"),
    ],
)
def test_an_unusable_broker_is_one_sentence(url: str, says: str) -> None:
    """It names what is wrong and keeps the password to itself."""
    with pytest.raises(InfrastructureError) as caught:
        require_broker(url.format(port=free_port()))
    said = str(caught.value)
    assert says in said
    assert said.endswith(".")
    assert "very-secret" not in said


def test_a_wrong_password_is_told_apart(broker_url: str) -> None:
    """A broker that is there but refuses us is not called absent."""
    address = broker_url.rpartition("@")[2]
    for url in (f"redis://:very-secret@{address}", f"redis://{address}"):
        with pytest.raises(InfrastructureError, match="password") as caught:
            require_broker(url)
        assert "very-secret" not in str(caught.value)

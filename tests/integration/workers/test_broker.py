# SPDX-License-Identifier: Apache-2.0
"""What is said about a broker: absent, locked, mistyped or forgetful."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from structlog.testing import capture_logs

from pipeline.errors import InfrastructureError
from pipeline.settings import Settings
from tests.support.processes import free_port
from workers.broker import inspect_broker, require_broker
from workers.broker_owner import HOLD_S, owner_key, renew_hold, require_own_broker


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


def test_a_broker_belongs_to_the_first_that_asks(
    broker_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    """Another installation is refused until the mark is gone; a prefix parts them."""
    settings = Settings(home=tmp_path, broker_url=SecretStr(broker_url))
    require_own_broker(settings, "ours")
    require_own_broker(settings, "ours")
    with pytest.raises(InfrastructureError) as caught:
        require_own_broker(settings, "theirs")
    assert "AFFIDAVIT_BROKER_PREFIX" in str(caught.value)
    assert owner_key(settings) in str(caught.value)
    assert "only-for-tests" not in str(caught.value)
    apart = settings.model_copy(update={"broker_prefix": "theirs:"})
    require_own_broker(apart, "theirs")
    client.delete(owner_key(settings))
    require_own_broker(settings, "theirs")


def test_the_mark_is_renewed_and_a_taker_is_noticed(
    broker_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    """It lasts a day from the last renewal; what FLUSHALL took is put back."""
    settings = Settings(home=tmp_path, broker_url=SecretStr(broker_url))
    require_own_broker(settings, "ours")
    client.expire(owner_key(settings), 60)
    renew_hold(settings, "ours")
    assert 60 < client.ttl(owner_key(settings)) <= HOLD_S
    client.flushall()
    renew_hold(settings, "ours")
    assert client.get(owner_key(settings)) == b"ours"
    client.set(owner_key(settings), "theirs")
    with capture_logs() as logs:
        renew_hold(settings, "ours")
    assert [line["event"] for line in logs] == ["broker_shared"]
    assert client.get(owner_key(settings)) == b"theirs"

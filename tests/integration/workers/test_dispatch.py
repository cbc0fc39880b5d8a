# SPDX-License-Identifier: Apache-2.0
"""From rows to hints: a bounded window, nothing twice, nothing lost for good."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from pipeline.errors import InfrastructureError
from pipeline.services import Services
from pipeline.settings import Settings
from storage.engine import epoch_now
from storage.leases import claim_shard, fail_attempt, release
from storage.states import OPEN_RUN_STATES, RunState, ShardState
from storage.tables import WorkerTable
from tests.support.planted import (
    at_once,
    claimed,
    end_back_off,
    finish,
    plant_run,
    plant_worker,
    services_of,
    set_run,
    set_shard,
    shard,
    shard_ids,
)
from tests.support.servers import RedisServer
from workers.app import create_app
from workers.dispatch import dispatch
from workers.hints import publisher, send_tick

Hints = list[tuple[int, str]]


@pytest.fixture
def services(engine: sa.Engine, tmp_path: Path) -> Iterator[Services]:
    """Services with a window of four hints, and a live worker on either queue."""
    found = services_of(engine, tmp_path, dispatch_window=4, hint_timeout_s=60)
    plant_worker(engine, "cpu")
    plant_worker(engine, "gpu")
    yield found
    found.close()


def hints_of(services: Services) -> Hints:
    """Return the hints that one dispatch sends."""
    sent: Hints = []
    count = dispatch(services, lambda shard_id, queue: sent.append((shard_id, queue)))
    assert count == len(sent)
    return sent


def test_the_window_is_filled_and_no_more(services: Services) -> None:
    """As many shards as the window holds are hinted, in order; claims make room."""
    engine = services.engine
    ids = shard_ids(engine, plant_run(engine, shards=7, queue="gpu"))
    assert hints_of(services) == [(found, "gpu") for found in ids[:4]]
    assert hints_of(services) == []
    first = claimed(engine, ids[0])
    assert hints_of(services) == [(ids[4], "gpu")]
    finish(engine, first)
    assert hints_of(services) == []
    release(engine, claimed(engine, ids[1]))
    assert hints_of(services) == [(ids[1], "gpu")]


def test_runs_take_turns(services: Services) -> None:
    """A small run is not kept waiting behind all of a large one."""
    engine = services.engine
    large = shard_ids(engine, plant_run(engine, shards=6))
    small = shard_ids(engine, plant_run(engine, shards=2))
    sent = [shard_id for shard_id, _queue in hints_of(services)]
    assert sorted(sent) == sorted([*large[:2], *small])


def test_the_run_with_the_fewest_in_flight_is_next(services: Services) -> None:
    """A run whose shards are at work already waits until the other has as many."""
    engine = services.engine
    large = shard_ids(engine, plant_run(engine, shards=9))
    for shard_id in large[:2]:
        claimed(engine, shard_id)
    late = shard_ids(engine, plant_run(engine, shards=9))
    sent = [shard_id for shard_id, _queue in hints_of(services)]
    assert sorted(sent) == sorted([large[2], *late[:3]])


def test_a_higher_priority_goes_first(services: Services) -> None:
    """All of an urgent run before any of another; the rest of the window is shared."""
    engine = services.engine
    usual = shard_ids(engine, plant_run(engine, shards=9))
    patient = shard_ids(engine, plant_run(engine, shards=9, priority=-1))
    urgent = shard_ids(engine, plant_run(engine, shards=3, priority=5))
    sent = {shard_id for shard_id, _queue in hints_of(services)}
    assert sent == {*urgent, usual[0]}
    assert not sent & set(patient)


def test_few_hints_are_redundant(engine: sa.Engine, tmp_path: Path) -> None:
    """Workers that follow hints as they come need one a shard, less one in twenty."""
    services = services_of(engine, tmp_path, dispatch_window=16, hint_timeout_s=60)
    plant_worker(engine, "cpu")
    ids = [
        shard_id
        for _run in range(2)
        for shard_id in shard_ids(engine, plant_run(engine, shards=60))
    ]
    waiting: SimpleQueue[int] = SimpleQueue()
    sent: list[int] = []

    def publish(shard_id: int, _queue: str) -> None:
        sent.append(shard_id)
        waiting.put(shard_id)

    def work() -> None:
        while True:
            try:
                shard_id = waiting.get(timeout=2)
            except Empty:
                return
            claim = claim_shard(engine, shard_id, worker="worker/w", lease_s=60)
            if claim is not None:
                finish(engine, claim)
            dispatch(services, publish)

    dispatch(services, publish)
    at_once([work] * 3)
    assert {shard(engine, shard_id).state for shard_id in ids} == {ShardState.DONE}
    assert set(sent) == set(ids)
    assert len(sent) <= 1.05 * len(ids)
    services.close()


def test_dispatchers_at_once_stay_within_the_window(services: Services) -> None:
    """Four dispatchers together send what one would have sent."""
    engine = services.engine
    for _ in range(4):
        ids = shard_ids(engine, plant_run(engine, shards=12))
        sent = at_once([lambda: hints_of(services)] * 4)
        hinted = Counter(shard_id for hints in sent for shard_id, _queue in hints)
        assert hinted == dict.fromkeys(ids[:4], 1)
        set_run(engine, run_of(engine, ids[0]), state=RunState.CANCELLED)


def run_of(engine: sa.Engine, shard_id: int) -> str:
    """Return the id of the shard's run."""
    return shard(engine, shard_id).run_id


def test_a_hint_that_nobody_follows_goes_out_again(services: Services) -> None:
    """Once its time is over, and not before; a shard at work is left alone."""
    engine = services.engine
    ids = shard_ids(engine, plant_run(engine, shards=3))
    hints_of(services)
    claimed(engine, ids[2])
    for shard_id in ids:
        set_shard(engine, shard_id, dispatched_at=epoch_now() - 50)
    assert hints_of(services) == []
    for shard_id in ids:
        set_shard(engine, shard_id, dispatched_at=epoch_now() - 61)
    assert hints_of(services) == [(ids[0], "cpu"), (ids[1], "cpu")]
    assert hints_of(services) == []


def test_each_hint_that_nobody_follows_waits_twice_as_long(services: Services) -> None:
    """Hints pile up ever more slowly, and a claim begins the count anew."""
    engine = services.engine
    (only,) = shard_ids(engine, plant_run(engine, shards=1))
    assert hints_of(services) == [(only, "cpu")]
    for seconds in (60, 120, 240, 480, 960, 1920, 3840, 3840, 3840):
        set_shard(engine, only, dispatched_at=epoch_now() - (seconds - 2))
        assert hints_of(services) == []
        set_shard(engine, only, dispatched_at=epoch_now() - (seconds + 2))
        assert hints_of(services) == [(only, "cpu")]
    release(engine, claimed(engine, only))
    assert hints_of(services) == [(only, "cpu")]
    set_shard(engine, only, dispatched_at=epoch_now() - 62)
    assert hints_of(services) == [(only, "cpu")]


def test_a_queue_that_nobody_empties_keeps_no_other_waiting(services: Services) -> None:
    """The window of one queue is full; the other one's is filled all the same."""
    engine = services.engine
    slow = shard_ids(engine, plant_run(engine, shards=9, queue="gpu"))
    assert hints_of(services) == [(shard_id, "gpu") for shard_id in slow[:4]]
    quick = shard_ids(engine, plant_run(engine, shards=9))
    for first in (0, 4, 8):
        sent = quick[first : first + 4]
        assert hints_of(services) == [(shard_id, "cpu") for shard_id in sent]
        for shard_id in sent:
            finish(engine, claimed(engine, shard_id))


def test_a_queue_without_live_workers_gets_no_hints(
    engine: sa.Engine, tmp_path: Path
) -> None:
    """Nothing piles up for workers that are away; the first one to come is told."""
    services = services_of(engine, tmp_path, hint_timeout_s=1)
    (only,) = shard_ids(engine, plant_run(engine, shards=1, queue="gpu"))
    plant_worker(engine, "cpu")
    plant_worker(engine, "control")
    assert hints_of(services) == []
    plant_worker(engine, "gpu")
    assert hints_of(services) == [(only, "gpu")]
    set_shard(engine, only, dispatched_at=epoch_now() - 9)
    with engine.begin() as connection:
        connection.execute(sa.update(WorkerTable).values(seen_at=epoch_now() - 60))
    assert hints_of(services) == []
    services.close()


@pytest.mark.parametrize("state", sorted(set(RunState) - OPEN_RUN_STATES))
def test_runs_that_are_not_open_are_not_hinted(
    sqlite_engine: sa.Engine, tmp_path: Path, state: RunState
) -> None:
    """No worker is woken for a stopped, cancelled, failed or finished run."""
    services = services_of(sqlite_engine, tmp_path)
    plant_worker(sqlite_engine, "cpu")
    set_run(services.engine, plant_run(services.engine), state=state)
    assert hints_of(services) == []
    services.close()


def test_embedded_runs_are_not_hinted(services: Services) -> None:
    """Their process does the work; they take no room in the window either."""
    engine = services.engine
    plant_run(engine, shards=9, queue="embedded")
    assert hints_of(services) == []
    ids = shard_ids(engine, plant_run(engine, shards=1))
    assert hints_of(services) == [(ids[0], "cpu")]


def test_a_shard_that_backs_off_is_not_hinted(services: Services) -> None:
    """After a failure the hint waits as long as the claim would."""
    engine = services.engine
    (only,) = shard_ids(engine, plant_run(engine, shards=1))
    hints_of(services)
    fail_attempt(engine, claimed(engine, only), error="OSError")
    assert hints_of(services) == []
    end_back_off(engine, only)
    assert hints_of(services) == [(only, "cpu")]


def test_hints_that_were_not_sent_are_not_marked(services: Services) -> None:
    """A broker that breaks off half-way costs the rest no timeout."""
    engine = services.engine
    ids = shard_ids(engine, plant_run(engine, shards=4))
    sent: Hints = []

    def publish(shard_id: int, queue: str) -> None:
        if len(sent) == 2:
            raise OperationalError("redis://:very-secret@host broke off")
        sent.append((shard_id, queue))

    with pytest.raises(InfrastructureError, match="takes no hints") as caught:
        dispatch(services, publish)
    assert "very-secret" not in str(caught.value)
    assert [shard_id for shard_id, _queue in sent] == ids[:2]
    assert [shard_id for shard_id, _queue in hints_of(services)] == ids[2:]


def with_broker(services: Services, url: str) -> Settings:
    """Return the services' settings with a broker."""
    return services.settings.model_copy(update={"broker_url": SecretStr(url)})


def messages(url: str, queue: str) -> list[dict[str, Any]]:
    """Return what waits in a queue, the oldest first."""
    with redis.Redis.from_url(url) as client:
        return [json.loads(raw) for raw in client.lrange(f"affidavit:{queue}", 0, -1)][
            ::-1
        ]


def test_a_message_is_an_id_and_nothing_else(
    services: Services, broker_url: str
) -> None:
    """What travels is JSON with the shard's number, under the installation's prefix."""
    ids = shard_ids(services.engine, plant_run(services.engine, shards=2))
    app = create_app(with_broker(services, broker_url))
    assert dispatch(services, publisher(app)) == 2
    found = messages(broker_url, "cpu")
    bodies = [json.loads(base64.b64decode(message["body"])) for message in found]
    assert [body[0] for body in bodies] == [[ids[0]], [ids[1]]]
    assert {message["content-type"] for message in found} == {"application/json"}
    assert "/photos/" not in json.dumps([found, bodies])
    with redis.Redis.from_url(broker_url) as client:
        assert all(key.startswith(b"affidavit:") for key in client.scan_iter())
    send_tick(app)
    (tick,) = messages(broker_url, "control")
    assert tick["headers"]["expires"] is not None
    app.close()


def test_a_broker_that_forgets_everything_loses_no_work(
    services: Services, broker_url: str
) -> None:
    """After FLUSHALL each pending shard is hinted again, and is then claimable."""
    engine = services.engine
    ids = shard_ids(engine, plant_run(engine, shards=3))
    app = create_app(with_broker(services, broker_url))
    dispatch(services, publisher(app))
    with redis.Redis.from_url(broker_url) as client:
        client.flushall()
    assert messages(broker_url, "cpu") == []
    assert dispatch(services, publisher(app)) == 0
    for shard_id in ids:
        set_shard(engine, shard_id, dispatched_at=epoch_now() - 61)
    assert dispatch(services, publisher(app)) == 3
    assert len(messages(broker_url, "cpu")) == 3
    for shard_id in ids:
        assert claim_shard(engine, shard_id, worker="worker/w", lease_s=60)
    app.close()


@pytest.mark.parametrize("how", ["full", "away"])
def test_a_broker_that_takes_nothing_is_one_sentence(
    sqlite_engine: sa.Engine,
    redis_server: RedisServer,
    broker_url: str,
    tmp_path: Path,
    how: str,
) -> None:
    """Full or gone, the error is ours, short, and without the password."""
    services = services_of(sqlite_engine, tmp_path)
    plant_worker(sqlite_engine, "cpu")
    plant_run(sqlite_engine)
    app = create_app(with_broker(services, broker_url))
    publish = publisher(app)
    publish(0, "cpu")
    with redis.Redis.from_url(broker_url) as client:
        if how == "full":
            client.config_set("maxmemory", "1")
        else:
            redis_server.kill()
        with pytest.raises(InfrastructureError) as caught:
            dispatch(services, publish)
        send_tick(app)
        if how == "full":
            client.config_set("maxmemory", "0")
        else:
            redis_server.restart()
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    password = broker_url.partition("//:")[2].partition("@")[0]
    assert password not in said
    assert dispatch(services, publish) == 2
    app.close()
    services.close()

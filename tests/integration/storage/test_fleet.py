# SPDX-License-Identifier: Apache-2.0
"""What is counted for monitors, and what workers are seen to do."""

import time

import pytest
import sqlalchemy as sa

from storage.clock import clock_ahead_s
from storage.engine import epoch_now, reading
from storage.errors import FencedOutError
from storage.fleet import DEAD_COUNT_FOR_S, QueueFigures, fleet_figures
from storage.installation import installation_id
from storage.leases import claim_shard, heartbeat
from storage.run_looks import open_runs, planned_software, shard_problems
from storage.states import RunState, ShardState
from storage.worker_registry import Announcement, announce, work_in_hand
from tests.support.databases import upgraded
from tests.support.planted import (
    at_once,
    claimed,
    finish,
    let_lease_run_out,
    plant_run,
    plant_worker,
    set_run,
    set_shard,
    shard_ids,
)


def test_shards_are_counted_by_queue_and_state(engine: sa.Engine) -> None:
    """Open runs count whole, ended ones not; dead shards count for another day."""
    first = plant_run(engine, shards=4)
    ids = shard_ids(engine, first)
    claimed(engine, ids[0])
    finish(engine, claimed(engine, ids[1]))
    set_shard(engine, ids[2], state=ShardState.DEAD)
    plant_run(engine, shards=3, queue="gpu")
    cancelled = plant_run(engine, shards=9)
    set_run(engine, cancelled, state=RunState.CANCELLED)
    found = fleet_figures(engine)
    assert dict(found.queues["cpu"].shards) == {
        "running": 1,
        "done": 1,
        "dead": 1,
        "pending": 1,
    }
    assert dict(found.queues["gpu"].shards) == {"pending": 3}
    assert found.runs == {"running": 1, "queued": 1, "cancelled": 1}
    assert (found.queues["cpu"].runs, found.queues["gpu"].runs) == (1, 1)
    set_run(engine, first, state=RunState.INCOMPLETE, finished_at=epoch_now())
    assert dict(fleet_figures(engine).queues["cpu"].shards) == {"dead": 1}
    ended = epoch_now() - DEAD_COUNT_FOR_S - 1
    set_run(engine, first, finished_at=ended)
    assert fleet_figures(engine).queues.get("cpu", QueueFigures()).shards == {}


def test_what_waits_is_as_old_as_its_chance(engine: sa.Engine) -> None:
    """A shard waits since its run, its back-off's end or its last claim."""
    run = plant_run(engine, shards=2)
    first, second = shard_ids(engine, run)
    set_run(engine, run, created_at=epoch_now() - 1000)
    waiting = fleet_figures(engine).queues["cpu"]
    assert waiting.oldest_pending_s == pytest.approx(1000, abs=60)
    assert waiting.idle_s == pytest.approx(1000, abs=60)
    set_shard(engine, second, not_before=epoch_now() - 400)
    claimed(engine, first)
    waiting = fleet_figures(engine).queues["cpu"]
    assert waiting.oldest_pending_s == pytest.approx(400, abs=60)
    # Somebody has claimed a moment ago, so the queue does not stand.
    assert waiting.idle_s is not None
    assert waiting.idle_s < 60
    set_shard(engine, second, not_before=epoch_now() + 400)
    waiting = fleet_figures(engine).queues["cpu"]
    assert (waiting.oldest_pending_s, waiting.idle_s) == (None, None)


def test_a_worker_is_seen_with_its_oldest_shard(engine: sa.Engine) -> None:
    """What a live worker does is in the shards that name it, while the lease holds."""
    run = plant_run(engine, shards=3, shard_size=6)
    ids = shard_ids(engine, run)
    worker = Announcement(
        name="cpu-1",
        queue="cpu",
        device="cpu",
        version="1",
        roots=(),
        actor="worker/cpu-1@host-1",
        software={"torch": "1"},
        metrics_url="http://host:1/metrics",
        clock_ahead_s=0.5,
    )
    announce(engine, worker)
    plant_worker(engine, "gpu")
    claims = [
        claim_shard(engine, shard_id, worker="worker/cpu-1@host-1", lease_s=60)
        for shard_id in ids[:2]
    ]
    assert claims[0] is not None
    heartbeat(engine, claims[0], lease_s=60, batches_done=2)
    set_shard(engine, ids[0], started_at=epoch_now() - 100)
    announce(engine, worker)
    busy, idle = work_in_hand(engine)
    assert (busy.worker.name, busy.run_id, busy.shard_index) == ("cpu-1", run, 0)
    assert (busy.items, busy.items_through) == (6, 4)
    assert busy.busy_s == pytest.approx(100, abs=30)
    assert (busy.worker.software, busy.worker.clock_ahead_s) == ({"torch": "1"}, 0.5)
    assert idle.run_id is None
    for shard_id in ids[:2]:
        let_lease_run_out(engine, shard_id)
    assert [each.run_id for each in work_in_hand(engine)] == [None, None]


def test_a_worker_started_anew_begins_its_time_anew(engine: sa.Engine) -> None:
    """Under the same name another process is another worker."""
    first = Announcement(
        name="w", queue="cpu", device="cpu", version="1", roots=(), actor="a-1"
    )
    announce(engine, first)
    time.sleep(0.2)
    announce(engine, first)
    (same,) = work_in_hand(engine)
    assert same.up_s >= 0.2
    announce(
        engine,
        Announcement(
            name="w", queue="cpu", device="cpu", version="1", roots=(), actor="a-2"
        ),
    )
    (other,) = work_in_hand(engine)
    assert other.up_s < same.up_s


def test_problems_of_a_run_are_told_dead_ones_first(engine: sa.Engine) -> None:
    """Shards without a bad end are none; no more are told than asked for."""
    run = plant_run(engine, shards=4)
    ids = shard_ids(engine, run)
    set_shard(engine, ids[1], error="StoreUnavailableError", started_at=5.0)
    set_shard(engine, ids[2], deaths=1, started_at=6.0)
    set_shard(engine, ids[3], state=ShardState.DEAD, error="lease_expired")
    found = shard_problems(engine, run, limit=5)
    assert [each.shard_index for each in found] == [3, 2, 1]
    assert found[0].state == "dead"
    assert len(shard_problems(engine, run, limit=2)) == 2


def test_what_software_a_shard_needs(engine: sa.Engine) -> None:
    """It is in the plan of its run; a shard that does not exist needs none."""
    run = plant_run(engine, plan={"batch_size": 2, "versions": {"torch": "1.0"}})
    assert planned_software(engine, shard_ids(engine, run)[0]) == {"torch": "1.0"}
    assert planned_software(engine, 10**9) == {}
    assert [found.id for found in open_runs(engine)] == [run]


def test_an_installation_has_one_id(engine: sa.Engine) -> None:
    """Two who ask first at the same time get the same one, and it stays."""
    first, second = at_once(
        [lambda: installation_id(engine), lambda: installation_id(engine)]
    )
    assert first == second == installation_id(engine)
    assert len(first) >= 16


def test_an_upgrade_names_the_installation(sqlite_url: str) -> None:
    """The id is there before the first worker asks, so that reading it suffices."""
    from storage.engine import create_engine
    from storage.tables import InstallationTable

    engine = create_engine(upgraded(sqlite_url))
    with reading(engine) as session:
        assert session.scalar(sa.select(InstallationTable.token)) is not None
    engine.dispose()


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_leases_go_by_the_databases_clock(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """A worker whose clock jumps by a day holds its shard, and takes no other's."""
    run = plant_run(engine, shards=1)
    (shard_id,) = shard_ids(engine, run)
    assert abs(clock_ahead_s(engine)) < 5
    now = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now() + jump)
        assert clock_ahead_s(engine) == pytest.approx(jump, abs=5)
        claim = claim_shard(engine, shard_id, worker="jumper", lease_s=60)
        assert claim is not None
    assert claim_shard(engine, shard_id, worker="other", lease_s=60) is None
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now() - jump)
        assert heartbeat(engine, claim, lease_s=60, batches_done=1)
        assert claim_shard(engine, shard_id, worker="other", lease_s=60) is None
    let_lease_run_out(engine, shard_id)
    assert claim_shard(engine, shard_id, worker="other", lease_s=60) is not None
    with pytest.raises(FencedOutError):
        heartbeat(engine, claim, lease_s=60, batches_done=2)

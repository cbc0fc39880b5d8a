# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is, and that claims ahead leave hinted shards alone."""

from collections import deque
from pathlib import Path

import sqlalchemy as sa

from ledger.entries import Action
from storage.engine import epoch_now
from storage.leases import claim_ahead, claim_next, claim_shard, heartbeat, release
from storage.runs import resume_run, stop_run
from storage.states import RunState, ShardState
from tests.support.planted import (
    at_once,
    claimed,
    entries,
    finish,
    let_lease_run_out,
    plant_run,
    plant_worker,
    services_of,
    set_run,
    set_shard,
    shard,
    shard_ids,
)
from workers.dispatch import dispatch


def _ahead(engine: sa.Engine, queue: str = "cpu") -> int | None:
    claim = claim_ahead(engine, queue, worker="worker/w1", lease_s=600)
    return None if claim is None else claim.shard_id


def _pause(engine: sa.Engine, run_id: str) -> None:
    stop_run(
        engine,
        run_id,
        RunState.PAUSED,
        action=Action.RUN_PAUSED,
        actor="user/tester",
    )


def test_runs_of_a_higher_priority_go_first(engine: sa.Engine) -> None:
    """However late it came, its shards are given out before those of the others."""
    low = shard_ids(engine, plant_run(engine, priority=-1))
    usual = shard_ids(engine, plant_run(engine))
    high = shard_ids(engine, plant_run(engine, priority=5))
    assert [_ahead(engine) for _ in range(7)] == [*high, *usual, *low, None]


def test_equals_share_the_workers(engine: sa.Engine) -> None:
    """The run with the fewest shards in flight is next, then the oldest."""
    old = shard_ids(engine, plant_run(engine, shards=4))
    for first in old[:2]:
        claimed(engine, first)
    new = shard_ids(engine, plant_run(engine, shards=4))
    taken = [_ahead(engine) for _ in range(6)]
    assert taken == [new[0], new[1], old[2], new[2], old[3], new[3]]


def test_a_claim_ahead_leaves_hinted_shards_alone(engine: sa.Engine) -> None:
    """No shard is taken that is hinted, waiting, held or of another queue."""
    ids = shard_ids(engine, plant_run(engine, shards=5))
    plant_run(engine, queue="gpu")
    set_shard(engine, ids[0], dispatched_at=epoch_now())
    set_shard(engine, ids[1], not_before=epoch_now() + 600)
    claimed(engine, ids[2])
    claimed(engine, ids[3])
    set_shard(engine, ids[3], dispatched_at=epoch_now())
    let_lease_run_out(engine, ids[3])
    taken = [_ahead(engine) for _ in range(3)]
    # A lease that ran out is taken over: its hint was used up by the former claim.
    assert taken == [ids[3], ids[4], None]


def test_what_waits_beside_other_work_loses_one_attempt_at_most(
    engine: sa.Engine,
) -> None:
    """Nothing is claimed for later that was attempted before or has one attempt."""
    tried = plant_run(engine, shards=1)
    release(engine, claimed(engine, shard_ids(engine, tried)[0]))
    once = plant_run(engine, shards=1, max_attempts=1)
    fresh = plant_run(engine, shards=1)
    for run_id, has_one in ((tried, False), (once, False), (fresh, True)):
        claim = claim_next(engine, run_id, worker="worker/w", lease_s=600, untried=True)
        assert (claim is not None) is has_one
        if claim is not None:
            let_lease_run_out(engine, claim.shard_id)
    assert (
        claim_ahead(engine, "cpu", worker="worker/w", lease_s=600, untried=True) is None
    )
    assert claim_next(engine, tried, worker="worker/w", lease_s=600) is not None
    assert claim_next(engine, once, worker="worker/w", lease_s=600) is not None


def test_a_run_of_other_software_is_left_to_others(engine: sa.Engine) -> None:
    """A worker claims ahead only of runs whose versions it takes."""
    other = {"batch_size": 2, "versions": {"torch": "1.0"}}
    plant_run(engine, priority=9, plan=other)
    mine = shard_ids(engine, plant_run(engine))
    claim = claim_ahead(
        engine,
        "cpu",
        worker="worker/w1",
        lease_s=600,
        takes=lambda versions: versions.get("torch") != "1.0",
    )
    assert claim is not None
    assert claim.shard_id == mine[0]


def test_a_stopped_run_is_not_claimed_ahead(engine: sa.Engine) -> None:
    """A paused run gets no worker until it is resumed."""
    run_id = plant_run(engine)
    _pause(engine, run_id)
    assert _ahead(engine) is None
    resume_run(engine, run_id, actor="user/tester")
    assert _ahead(engine) == shard_ids(engine, run_id)[0]


def test_a_paused_run_waits_and_goes_on(engine: sa.Engine) -> None:
    """Its workers hear of it at their heartbeat; what they give back is not lost."""
    run_id = plant_run(engine)
    first, second = shard_ids(engine, run_id)
    claim = claimed(engine, first)
    _pause(engine, run_id)
    assert not heartbeat(engine, claim, lease_s=600, batches_done=1)
    release(engine, claim)
    assert claim_shard(engine, second, worker="worker/w1", lease_s=600) is None
    resume_run(engine, run_id, actor="user/tester")
    for shard_id in (first, second):
        finish(engine, claimed(engine, shard_id))
        assert shard(engine, shard_id).state == ShardState.DONE
    told = [entry.action for entry in entries(engine)]
    assert told.count(Action.RUN_PAUSED) == told.count(Action.RUN_RESUMED) == 1


def test_claims_ahead_at_once_get_different_shards(engine: sa.Engine) -> None:
    """Four workers that look at the same moment take four shards."""
    for _ in range(4):
        run_id = plant_run(engine, shards=4)
        taken = at_once([lambda: _ahead(engine)] * 4)
        got = [found for found in taken if found is not None]
        assert len(got) == len(set(got))
        set_run(engine, run_id, state=RunState.CANCELLED)


def test_hints_in_vain_are_few(engine: sa.Engine, tmp_path: Path) -> None:
    """Four workers, half of whose claims are ahead, get under 5 % redundant hints."""
    services = services_of(engine, tmp_path, dispatch_window=16, hint_timeout_s=600)
    plant_worker(engine, "cpu")
    shards = 60
    runs = [plant_run(engine, shards=shards, shard_size=1) for _ in range(2)]
    hints: deque[int] = deque()
    sent: list[int] = []
    vain: list[int] = []

    def publish(shard_id: int, _queue: str) -> None:
        sent.append(shard_id)
        hints.append(shard_id)

    def work() -> None:
        while True:
            dispatch(services, publish)
            try:
                shard_id = hints.popleft()
            except IndexError:
                return
            hinted = claim_shard(engine, shard_id, worker="worker/w", lease_s=600)
            if hinted is None:
                vain.append(shard_id)
            ahead = claim_ahead(engine, "cpu", worker="worker/w", lease_s=600)
            for claim in (hinted, ahead):
                if claim is not None:
                    finish(engine, claim)

    at_once([work] * 4)
    services.close()
    rows = [shard(engine, one) for run_id in runs for one in shard_ids(engine, run_id)]
    assert {row.state for row in rows} == {ShardState.DONE}
    assert {row.attempt for row in rows} == {1}
    assert len(sent) < len(rows)
    assert len(vain) < 0.05 * len(rows)

# SPDX-License-Identifier: Apache-2.0
"""The lease protocol: who may work on a shard, and whose work counts."""

import dataclasses

import pytest
import sqlalchemy as sa

from ledger.entries import Action
from storage.engine import epoch_now, reading, transaction
from storage.errors import FencedOutError, StatementRefusedError
from storage.leases import (
    BACKOFF_S,
    Artifact,
    claim_next,
    claim_shard,
    expire_leases,
    fail_attempt,
    finish_shard,
    heartbeat,
    release,
)
from storage.states import OPEN_RUN_STATES, RunState, ShardState
from storage.tables import ItemTable, ShardTable
from tests.support.planted import (
    at_once,
    claimed,
    end_back_off,
    entries,
    finish,
    item_row,
    let_lease_run_out,
    plant_run,
    rows_of,
    run,
    set_run,
    set_shard,
    shard,
    shard_ids,
    snapshot,
)

WORKER = "worker/w1"


def claim_of(engine: sa.Engine, shard_id: int, worker: str = WORKER) -> object:
    """Return the claim or None."""
    return claim_shard(engine, shard_id, worker=worker, lease_s=60)


def test_a_claim_takes_a_pending_shard(engine: sa.Engine) -> None:
    """The first claim starts the run, counts an attempt and sets a lease."""
    run_id = plant_run(engine)
    first = shard_ids(engine, run_id)[0]
    claim = claimed(engine, first)
    row = shard(engine, first)
    with reading(engine) as session:
        left = (row.lease_until or 0) - (session.scalar(sa.select(epoch_now())) or 0)
    assert (claim.attempt, claim.first_item, claim.item_count) == (1, 0, 2)
    assert (row.state, row.attempt, row.worker) == (ShardState.RUNNING, 1, WORKER)
    assert 50 < left <= 60
    assert run(engine, run_id).state == RunState.RUNNING
    assert [entry.action for entry in entries(engine)] == [
        Action.RUN_PLANNED,
        Action.RUN_STARTED,
        Action.SHARD_CLAIMED,
    ]


def test_a_run_starts_once(engine: sa.Engine) -> None:
    """The second shard's claim leaves the run's start alone."""
    run_id = plant_run(engine)
    first, second = shard_ids(engine, run_id)
    claimed(engine, first)
    started = run(engine, run_id).started_at
    claimed(engine, second)
    assert run(engine, run_id).started_at == started
    assert len(entries(engine, action="run:started")) == 1


def test_what_nobody_may_claim(engine: sa.Engine) -> None:
    """Held, done, dead, exhausted, backing-off and unknown shards give no claim."""
    run_id = plant_run(engine, shards=6)
    held, done, dead, exhausted, waiting, free = shard_ids(engine, run_id)
    claimed(engine, held)
    finish(engine, claimed(engine, done))
    set_shard(engine, dead, state="dead")
    set_shard(engine, exhausted, attempt=3)
    set_shard(engine, waiting, not_before=epoch_now() + 60)
    before = snapshot(engine)
    for shard_id in (held, done, dead, exhausted, waiting, 10**9):
        assert claim_of(engine, shard_id) is None
    assert snapshot(engine) == before
    next_one = claim_next(engine, run_id, worker=WORKER, lease_s=60)
    assert next_one is not None
    assert next_one.shard_id == free
    assert claim_next(engine, run_id, worker=WORKER, lease_s=60) is None


@pytest.mark.parametrize("state", sorted(set(RunState) - OPEN_RUN_STATES))
def test_a_run_that_is_not_open_gives_no_shard(
    sqlite_engine: sa.Engine, state: RunState
) -> None:
    """No shard of a stopped, final or finalising run is claimed, nor changed."""
    run_id = plant_run(sqlite_engine)
    set_run(sqlite_engine, run_id, state=state)
    before = snapshot(sqlite_engine)
    assert claim_of(sqlite_engine, shard_ids(sqlite_engine, run_id)[0]) is None
    assert claim_next(sqlite_engine, run_id, worker=WORKER, lease_s=60) is None
    assert snapshot(sqlite_engine) == before


def test_a_silent_attempt_is_taken_over_and_told_of(engine: sa.Engine) -> None:
    """An expired lease goes to the next claimer; the ledger has both attempts' fate."""
    run_id = plant_run(engine)
    first = shard_ids(engine, run_id)[0]
    claimed(engine, first)
    let_lease_run_out(engine, first)
    claim = claimed(engine, first, "worker/w2")
    assert claim.attempt == 2
    told = [
        (entry.action, entry.actor, entry.details["attempt"])
        for entry in entries(engine)
        if "/shard/" in entry.object
    ]
    assert told == [
        (Action.SHARD_CLAIMED, WORKER, 1),
        (Action.SHARD_EXPIRED, "worker/w2", 1),
        (Action.SHARD_CLAIMED, "worker/w2", 2),
    ]


def test_of_many_claimers_one_wins(engine: sa.Engine) -> None:
    """Six threads that claim the same shard at once get one claim among them."""
    run_id = plant_run(engine, shards=1)
    (only,) = shard_ids(engine, run_id)
    won = at_once([lambda: claim_of(engine, only) for _ in range(6)])
    assert len([claim for claim in won if claim is not None]) == 1
    assert shard(engine, only).attempt == 1
    assert len(entries(engine, action="shard:claimed")) == 1


def test_claimers_of_a_run_get_different_shards(engine: sa.Engine) -> None:
    """Threads that ask for the next shard at once never share one."""
    run_id = plant_run(engine, shards=12, shard_size=1)

    def take_all() -> list[int]:
        mine = []
        while claim := claim_next(engine, run_id, worker=WORKER, lease_s=60):
            mine.append(claim.shard_index)
        return mine

    taken = at_once([take_all] * 4)
    # One that met only locked rows may have left early; nothing is taken twice.
    indexes = [index for mine in taken for index in mine]
    indexes += take_all()
    assert sorted(indexes) == list(range(12))


def test_a_claim_waits_for_the_dispatchers_short_lock(
    postgres_engine: sa.Engine,
) -> None:
    """A hint that arrives while its row is locked is followed, not dropped."""
    run_id = plant_run(postgres_engine)
    first = shard_ids(postgres_engine, run_id)[0]

    def hold_it() -> None:
        with transaction(postgres_engine) as session:
            session.execute(
                sa.select(ShardTable.id).where(ShardTable.id == first).with_for_update()
            )
            session.execute(sa.select(sa.func.pg_sleep(0.4)))

    def claim_it() -> object:
        with reading(postgres_engine) as session:
            session.execute(sa.select(sa.func.pg_sleep(0.15)))
        return claim_of(postgres_engine, first)

    assert at_once([hold_it, claim_it])[1] is not None


def test_a_heartbeat_renews_the_lease(engine: sa.Engine) -> None:
    """An attempt that is alive keeps its shard and tells how far it is."""
    run_id = plant_run(engine)
    first = shard_ids(engine, run_id)[0]
    claim = claimed(engine, first)
    let_lease_run_out(engine, first)
    assert heartbeat(engine, claim, lease_s=60, batches_done=1)
    assert expire_leases(engine, actor="worker/control") == 0
    assert claim_of(engine, first) is None
    assert shard(engine, first).batches_done == 1


@pytest.mark.parametrize("state", [RunState.INTERRUPTED, RunState.CANCELLED])
def test_a_heartbeat_notices_that_the_run_was_stopped(
    engine: sa.Engine, state: RunState
) -> None:
    """The work is no longer wanted, yet the lease holds until it is given back."""
    run_id = plant_run(engine)
    claim = claimed(engine, shard_ids(engine, run_id)[0])
    set_run(engine, run_id, state=state)
    assert not heartbeat(engine, claim, lease_s=60, batches_done=1)
    finish(engine, claim)
    assert shard(engine, claim.shard_id).state == ShardState.DONE
    assert run(engine, run_id).state == state


@pytest.mark.parametrize("how", ["taken over", "swept", "released", "failed", "done"])
def test_a_lost_attempt_leaves_no_trace(engine: sa.Engine, how: str) -> None:
    """Whatever a fenced-out worker tries is refused: no row, no entry, no state."""
    run_id = plant_run(engine)
    first = shard_ids(engine, run_id)[0]
    stale = claimed(engine, first)
    if how == "released":
        release(engine, stale)
    elif how == "failed":
        fail_attempt(engine, stale, error="OSError")
    elif how == "done":
        finish(engine, stale)
    else:
        let_lease_run_out(engine, first)
        if how == "swept":
            expire_leases(engine, actor="worker/control")
        else:
            claimed(engine, first, "worker/w2")
    before = snapshot(engine)
    with pytest.raises(FencedOutError, match=f"run/{run_id}/shard/0 is lost"):
        finish(engine, stale)
    with pytest.raises(FencedOutError):
        heartbeat(engine, stale, lease_s=60, batches_done=1)
    release(engine, stale)
    assert fail_attempt(engine, stale, error="OSError") is None
    assert snapshot(engine) == before


def test_a_claim_that_was_made_up_is_refused(engine: sa.Engine) -> None:
    """The attempt number is the fence: a higher one does not pass either."""
    run_id = plant_run(engine)
    claim = claimed(engine, shard_ids(engine, run_id)[0])
    before = snapshot(engine)
    with pytest.raises(FencedOutError):
        finish(engine, dataclasses.replace(claim, attempt=2))
    assert snapshot(engine) == before


def test_a_finish_writes_rows_entry_and_state_together(engine: sa.Engine) -> None:
    """After it everything is there; the run knows that it cannot be compared."""
    run_id = plant_run(engine)
    claim = claimed(engine, shard_ids(engine, run_id)[1])
    finish_shard(
        engine,
        claim,
        artifact=Artifact(key="k", sha256="6" * 64, size_bytes=9),
        items=rows_of(claim),
        counts={"items_done": 1, "items_failed": 1},
        not_comparable=True,
    )
    row = shard(engine, claim.shard_id)
    assert (row.state, row.lease_until) == (ShardState.DONE, None)
    assert (row.object_key, row.sha256, row.size_bytes) == ("k", "6" * 64, 9)
    assert run(engine, run_id).not_comparable
    with reading(engine) as session:
        indexes = session.scalars(sa.select(ItemTable.item_index)).all()
    assert sorted(indexes) == [2, 3]
    (entry,) = entries(engine, action="shard:finished")
    assert entry.digest == "6" * 64
    assert entry.details == {
        "attempt": 1,
        "key": "k",
        "sha256": "6" * 64,
        "size": 9,
        "halved": True,
        "items_done": 1,
        "items_failed": 1,
    }


def test_a_finish_that_breaks_leaves_nothing(engine: sa.Engine) -> None:
    """A row that the database refuses takes state and entry with it."""
    run_id = plant_run(engine)
    claim = claimed(engine, shard_ids(engine, run_id)[0])
    before = snapshot(engine)
    for bad in (item_row(run_id, 999), rows_of(claim)[0]):  # no such item; doubled
        with pytest.raises(StatementRefusedError):
            finish_shard(
                engine,
                claim,
                artifact=Artifact(key="k", sha256="6" * 64, size_bytes=9),
                items=[*rows_of(claim), bad],
                counts={},
            )
        assert snapshot(engine) == before
    finish(engine, claim)


def test_giving_back_does_not_count_as_an_attempt(engine: sa.Engine) -> None:
    """However often a shard is given back, it keeps its attempts; the fence rises."""
    run_id = plant_run(engine, max_attempts=2)
    first = shard_ids(engine, run_id)[0]
    set_shard(engine, first, dispatched_at=epoch_now())
    for expected in (1, 2, 3, 4):
        claim = claimed(engine, first)
        assert claim.attempt == expected
        release(engine, claim)
        row = shard(engine, first)
        assert (row.state, row.lease_until) == (ShardState.PENDING, None)
        assert row.dispatched_at is None
    for state in (ShardState.PENDING, ShardState.DEAD):
        assert fail_attempt(engine, claimed(engine, first), error="OSError") == state
        end_back_off(engine, first)
    assert len(entries(engine, action="shard:released")) == 4


def test_failures_back_off_and_end_among_the_dead(engine: sa.Engine) -> None:
    """Each failure waits longer than the one before; the last one is final."""
    run_id = plant_run(engine, max_attempts=3)
    first = shard_ids(engine, run_id)[0]
    for attempt in (1, 2):
        state = fail_attempt(engine, claimed(engine, first), error="OSError")
        assert state == ShardState.PENDING
        row = shard(engine, first)
        with reading(engine) as session:
            now = session.scalar(sa.select(epoch_now())) or 0
        wait = (row.not_before or 0) - now
        assert BACKOFF_S * attempt - 3 < wait <= BACKOFF_S * attempt
        assert claim_of(engine, first) is None
        end_back_off(engine, first)
    last = fail_attempt(engine, claimed(engine, first), error="ValueError")
    assert last == ShardState.DEAD
    end_back_off(engine, first)
    assert claim_of(engine, first) is None
    row = shard(engine, first)
    assert (row.state, row.error, row.attempt) == (ShardState.DEAD, "ValueError", 3)
    told = [
        (entry.action, entry.details)
        for entry in entries(engine)
        if entry.action in {Action.SHARD_FAILED, Action.SHARD_DEAD}
    ]
    assert told == [
        (Action.SHARD_FAILED, {"attempt": 1, "error": "OSError"}),
        (Action.SHARD_FAILED, {"attempt": 2, "error": "OSError"}),
        (Action.SHARD_DEAD, {"attempt": 3, "error": "ValueError"}),
    ]


def test_silent_attempts_end_among_the_dead_too(engine: sa.Engine) -> None:
    """The sweep counts silent attempts, leaves live ones, and is done once."""
    run_id = plant_run(engine, shards=3, max_attempts=1)
    silent, live, pending = shard_ids(engine, run_id)
    claimed(engine, silent)
    claimed(engine, live)
    let_lease_run_out(engine, silent)
    assert expire_leases(engine, actor="worker/control") == 1
    assert expire_leases(engine, actor="worker/control") == 0
    states = [shard(engine, found).state for found in (silent, live, pending)]
    assert states == [ShardState.DEAD, ShardState.RUNNING, ShardState.PENDING]
    (entry,) = entries(engine, action="shard:dead")
    assert entry.actor == "worker/control"
    assert entry.details == {"attempt": 1, "error": "lease_expired"}


def test_sweepers_at_once_count_each_shard_once(engine: sa.Engine) -> None:
    """Of three sweeps at once, each expired shard is ended by exactly one."""
    run_id = plant_run(engine, shards=8, shard_size=1)
    for shard_id in shard_ids(engine, run_id):
        claimed(engine, shard_id)
        let_lease_run_out(engine, shard_id)
    swept = at_once([lambda: expire_leases(engine, actor="worker/control")] * 3)
    assert sum(swept) == 8
    assert len(entries(engine, action="shard:expired")) == 8


def test_a_long_error_is_cut_to_its_column(engine: sa.Engine) -> None:
    """A name longer than the column does not break the recording of a failure."""
    run_id = plant_run(engine)
    first = shard_ids(engine, run_id)[0]
    fail_attempt(engine, claimed(engine, first), error="E" * 300)
    assert shard(engine, first).error == "E" * 64

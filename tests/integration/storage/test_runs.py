# SPDX-License-Identifier: Apache-2.0
"""Runs: found, moved between states, counted, and finalised by one."""

import itertools
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from ledger.entries import Action
from storage.engine import epoch_now, reading, transaction
from storage.errors import FencedOutError, StateConflictError, UnknownRunError
from storage.finalisers import (
    claim_finaliser,
    fail_run,
    finalisable_runs,
    finish_run,
    renew_finaliser,
)
from storage.leases import claim_shard, fail_attempt, heartbeat
from storage.runs import (
    add_audit,
    get_progress,
    get_run,
    list_runs,
    list_shards,
    resume_run,
    retry_dead_shards,
    stop_run,
)
from storage.states import FINAL_RUN_STATES, RunState, ShardState
from storage.tables import AuditTable, RunTable
from tests.support.planted import (
    at_once,
    claimed,
    entries,
    finish,
    plant_run,
    run,
    set_run,
    set_shard,
    shard,
    shard_ids,
    snapshot,
)

USER = "user/tester"


def stop(engine: sa.Engine, run_id: str) -> None:
    """Interrupt the run."""
    stop_run(
        engine,
        run_id,
        RunState.INTERRUPTED,
        action=Action.RUN_INTERRUPTED,
        actor=USER,
    )


def cancel(engine: sa.Engine, run_id: str) -> None:
    """Cancel the run."""
    stop_run(
        engine, run_id, RunState.CANCELLED, action=Action.RUN_CANCELLED, actor=USER
    )


def pause(engine: sa.Engine, run_id: str) -> None:
    """Pause the run."""
    stop_run(engine, run_id, RunState.PAUSED, action=Action.RUN_PAUSED, actor=USER)


def resume(engine: sa.Engine, run_id: str) -> None:
    """Resume the run."""
    resume_run(engine, run_id, actor=USER)


def retry(engine: sa.Engine, run_id: str) -> None:
    """Retry the run's dead shards."""
    retry_dead_shards(engine, run_id, attempts=2, actor=USER)


def finished(engine: sa.Engine, run_id: str, fence: int) -> None:
    """The run is done."""
    finish_run(
        engine,
        run_id,
        fence=fence,
        state=RunState.DONE,
        result_digest="7" * 64,
        summary={"items": {}},
        report={"json_key": "k", "json_sha256": "8" * 64},
        actor="worker/control",
    )


def test_an_audit_is_one_row_a_distinct_spec(engine: sa.Engine) -> None:
    """The same spec is reused; another source under the same digest is not."""

    def add(name: str, source: str, digest: str = "0" * 64) -> str:
        spec = {"audit": name, "data": {"source": source}, "criteria": None, "n": 1.5}
        with transaction(engine) as session:
            return add_audit(session, name=name, spec=spec, spec_digest=digest)

    first = add("a", "photos/")
    assert add("a", "photos/") == first
    others = {add("a", "scans/"), add("b", "photos/"), add("a", "photos/", "1" * 64)}
    assert len(others | {first}) == 4
    with reading(engine) as session:
        assert session.scalar(sa.select(sa.func.count(AuditTable.id))) == 4


def test_planners_of_a_new_audit_at_once_share_its_row(engine: sa.Engine) -> None:
    """Transactions that bring in the same audit together leave one row."""

    def add() -> str:
        with transaction(engine) as session:
            return add_audit(session, name="a", spec={"x": 1}, spec_digest="0" * 64)

    assert len(set(at_once([add] * 4))) == 1


def test_a_run_is_found_by_the_beginning_of_its_id(engine: sa.Engine) -> None:
    """A unique prefix is enough; an ambiguous or unknown one is told of."""
    run_id = plant_run(engine)
    other = run_id[:6] + ("0" if run_id[6] != "0" else "1") + run_id[7:]
    second = plant_run(engine)
    assert get_run(engine, run_id).id == run_id
    assert get_run(engine, second).id == second
    table = RunTable.__table__
    changed = {"id": sa.literal(other), "created_at": table.c.created_at + 1000}
    twin = sa.select(*(changed.get(c.name, c) for c in table.c)).where(
        table.c.id == run_id
    )
    with engine.begin() as connection:
        connection.execute(sa.insert(table).from_select(list(table.c.keys()), twin))
    assert get_run(engine, run_id[:7]).id == run_id
    with pytest.raises(UnknownRunError, match="Several runs begin with"):
        get_run(engine, run_id[:6])
    for odd in ("zz", "%", "_", f"{run_id}0", "Latest"):
        with pytest.raises(UnknownRunError, match="No run has the id"):
            get_run(engine, odd)
    assert get_run(engine, "latest").id == other
    assert list_runs(engine)[0].id == other
    assert len(list_runs(engine, limit=2)) == 2


def test_without_runs_there_is_no_latest(engine: sa.Engine) -> None:
    """An empty database is no crash; the sentence says how to start a run."""
    with pytest.raises(UnknownRunError, match="no runs yet; start one with"):
        get_run(engine, "latest")
    assert list_runs(engine) == []


#: Which move leads where; any other is refused.
MOVES: dict[Callable[[sa.Engine, str], None], dict[RunState, RunState]] = {
    stop: {
        RunState.QUEUED: RunState.INTERRUPTED,
        RunState.RUNNING: RunState.INTERRUPTED,
    },
    cancel: {
        RunState.QUEUED: RunState.CANCELLED,
        RunState.RUNNING: RunState.CANCELLED,
        RunState.PAUSED: RunState.CANCELLED,
    },
    pause: {
        RunState.QUEUED: RunState.PAUSED,
        RunState.RUNNING: RunState.PAUSED,
    },
    resume: {
        RunState.INTERRUPTED: RunState.QUEUED,
        RunState.PAUSED: RunState.QUEUED,
        RunState.CANCELLED: RunState.QUEUED,
        RunState.FAILED: RunState.QUEUED,
    },
    retry: {
        RunState.QUEUED: RunState.QUEUED,
        RunState.RUNNING: RunState.RUNNING,
        RunState.DONE: RunState.QUEUED,
        RunState.INCOMPLETE: RunState.QUEUED,
        RunState.FAILED: RunState.QUEUED,
    },
}


def test_the_table_of_moves(engine: sa.Engine) -> None:
    """Each allowed move leads where it should with one entry; the rest is refused."""
    run_id = plant_run(engine)
    first = shard_ids(engine, run_id)[0]
    for state, (move, allowed) in itertools.product(RunState, MOVES.items()):
        set_run(engine, run_id, state=state)
        set_shard(engine, first, state="dead", attempt=3)
        told = len(entries(engine))
        if state in allowed:
            move(engine, run_id)
            assert run(engine, run_id).state == allowed[state], (state, move)
            assert len(entries(engine)) == told + 1
            continue
        before = snapshot(engine)
        with pytest.raises(StateConflictError) as caught:
            move(engine, run_id)
        sentence = str(caught.value)
        assert run_id in sentence
        assert state.value in sentence
        assert sentence.endswith(".")
        assert snapshot(engine) == before, (state, move)


@pytest.mark.parametrize("move", [stop, cancel, pause, resume])
def test_an_unknown_run_cannot_be_moved(
    sqlite_engine: sa.Engine, move: Callable[[sa.Engine, str], None]
) -> None:
    """A run that is not there is named as such."""
    with pytest.raises(UnknownRunError, match="No run has the id 'beef'"):
        move(sqlite_engine, "beef")
    assert entries(sqlite_engine) == []


def test_retry_gives_dead_shards_fresh_attempts(engine: sa.Engine) -> None:
    """Only dead shards come back, claimable at once, without lowering the fence."""
    run_id = plant_run(engine, shards=3, max_attempts=1)
    dead, done, pending = shard_ids(engine, run_id)
    fail_attempt(engine, claimed(engine, dead), error="OSError")
    finish(engine, claimed(engine, done))
    set_run(engine, run_id, state=RunState.INCOMPLETE, finished_at=1.0)
    assert retry_dead_shards(engine, run_id, attempts=2, actor=USER) == 1
    row = shard(engine, dead)
    assert (row.state, row.attempt, row.max_attempts) == (ShardState.PENDING, 1, 3)
    assert run(engine, run_id).finished_at is None
    assert claimed(engine, dead).attempt == 2
    assert shard(engine, done).state == ShardState.DONE
    assert shard(engine, pending).max_attempts == 1
    with pytest.raises(StateConflictError, match="no dead shards"):
        retry(engine, run_id)


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.INTERRUPTED])
def test_retry_does_not_open_what_a_user_stopped(
    engine: sa.Engine, state: RunState
) -> None:
    """Pending shards of a stopped run stay untouched; the sentence says resume."""
    run_id = plant_run(engine, max_attempts=1)
    dead, pending = shard_ids(engine, run_id)
    fail_attempt(engine, claimed(engine, dead), error="OSError")
    set_run(engine, run_id, state=state)
    with pytest.raises(StateConflictError, match=f"affidavit resume {run_id}"):
        retry(engine, run_id)
    assert claim_shard(engine, pending, worker="worker/w", lease_s=60) is None
    resume(engine, run_id)
    retry(engine, run_id)
    assert claimed(engine, dead).attempt == 2


def test_progress_counts_shards_and_items(engine: sa.Engine) -> None:
    """Done shards count whole, running ones by batch and never beyond their items."""
    run_id = plant_run(engine, shards=5, shard_size=5)
    done, running, last_batch, waiting, dead = shard_ids(engine, run_id)
    finish(engine, claimed(engine, done))
    heartbeat(engine, claimed(engine, running), lease_s=60, batches_done=1)
    heartbeat(engine, claimed(engine, last_batch), lease_s=60, batches_done=3)
    set_shard(
        engine,
        waiting,
        dispatched_at=epoch_now() - 30,
        not_before=epoch_now() + 20,
        batches_done=2,  # of an attempt that failed
    )
    set_shard(engine, dead, state="dead")
    progress = get_progress(engine, run(engine, run_id))
    assert progress.shards == {"done": 1, "running": 2, "pending": 1, "dead": 1}
    assert (progress.items_done, progress.items_total) == (5 + 2 + 5, 25)
    assert progress.oldest_pending_s == pytest.approx(30, abs=5)
    assert progress.not_before_s == pytest.approx(20, abs=5)
    assert [row.shard_index for row in list_shards(engine, run_id)] == [0, 1, 2, 3, 4]


def test_a_run_is_finalised_when_all_its_shards_are_final(engine: sa.Engine) -> None:
    """Pending or running shards keep a run from its finaliser; dead ones do not."""
    run_id = plant_run(engine, shards=2, max_attempts=1)
    first, second = shard_ids(engine, run_id)
    assert claim_finaliser(engine, run_id, lease_s=60) is None
    finish(engine, claimed(engine, first))
    assert claim_finaliser(engine, run_id, lease_s=60) is None
    claim = claimed(engine, second)
    assert claim_finaliser(engine, run_id, lease_s=60) is None
    assert finalisable_runs(engine) == []
    fail_attempt(engine, claim, error="OSError")
    assert finalisable_runs(engine) == [run_id]
    assert claim_finaliser(engine, run_id, lease_s=60) == 1
    assert run(engine, run_id).state == RunState.FINALISING


def ready_run(engine: sa.Engine) -> str:
    """Return the id of a run that only waits for its finaliser."""
    run_id = plant_run(engine, shards=1)
    finish(engine, claimed(engine, shard_ids(engine, run_id)[0]))
    return run_id


def test_of_many_finalisers_one_wins(engine: sa.Engine) -> None:
    """Five threads that would finalise the same run get one fence among them."""
    run_id = ready_run(engine)
    fences = at_once([lambda: claim_finaliser(engine, run_id, lease_s=60)] * 5)
    assert [fence for fence in fences if fence is not None] == [1]


@pytest.mark.parametrize(
    "state", sorted(FINAL_RUN_STATES | {RunState.FINALISING}, key=str)
)
def test_a_final_run_is_not_finalised_again(
    sqlite_engine: sa.Engine, state: RunState
) -> None:
    """Neither a final run nor one with a live finaliser is given away."""
    run_id = ready_run(sqlite_engine)
    set_run(sqlite_engine, run_id, state=state, finaliser_lease_until=epoch_now() + 60)
    assert claim_finaliser(sqlite_engine, run_id, lease_s=60) is None


def test_a_silent_finaliser_is_replaced_and_fenced_out(engine: sa.Engine) -> None:
    """The second one's report counts; the first one writes nothing, ever."""
    run_id = ready_run(engine)
    slow = claim_finaliser(engine, run_id, lease_s=60)
    set_run(engine, run_id, finaliser_lease_until=epoch_now() - 1)
    fresh = claim_finaliser(engine, run_id, lease_s=60)
    assert (slow, fresh) == (1, 2)
    before = snapshot(engine)
    with pytest.raises(FencedOutError, match=run_id):
        finished(engine, run_id, 1)
    assert snapshot(engine) == before
    finished(engine, run_id, 2)
    row = run(engine, run_id)
    assert (row.state, row.result_digest) == (RunState.DONE, "7" * 64)
    assert row.finaliser_lease_until is None
    told = [entry.action for entry in entries(engine)][-2:]
    assert told == [Action.REPORT_WRITTEN, Action.RUN_FINALISED]
    for fence in (1, 2, 3):
        with pytest.raises(FencedOutError):
            finished(engine, run_id, fence)


def test_retry_and_finaliser_never_both_win(postgres_engine: sa.Engine) -> None:
    """A run never ends with shards that a retry brought back a moment before."""
    engine = postgres_engine
    for _ in range(8):
        run_id = plant_run(engine, shards=1, max_attempts=1)
        (only,) = shard_ids(engine, run_id)
        fail_attempt(engine, claimed(engine, only), error="OSError")

        def retried(run_id: str = run_id) -> str:
            try:
                retry(engine, run_id)
            except StateConflictError:
                return "refused"
            return "retried"

        def finalised(run_id: str = run_id) -> str:
            fence = claim_finaliser(engine, run_id, lease_s=60)
            return "refused" if fence is None else "finalising"

        answers = at_once([retried, finalised])
        assert sorted(answers) in (["finalising", "refused"], ["refused", "retried"])
        claim = claim_shard(engine, only, worker="worker/w", lease_s=60)
        assert (claim is not None) == (answers[0] == "retried")


def test_a_finaliser_waits_for_a_retry_under_way(postgres_engine: sa.Engine) -> None:
    """What a retry has done but not yet committed is seen, not overlooked."""
    engine = postgres_engine
    run_id = plant_run(engine, shards=1, max_attempts=1)
    (only,) = shard_ids(engine, run_id)
    fail_attempt(engine, claimed(engine, only), error="OSError")

    def slow_retry() -> None:
        with transaction(engine) as session:
            session.execute(
                sa.text("SELECT id FROM runs WHERE id = :id FOR UPDATE"), {"id": run_id}
            )
            session.execute(
                sa.text("UPDATE shards SET state = 'pending' WHERE id = :id"),
                {"id": only},
            )
            session.execute(sa.select(sa.func.pg_sleep(0.4)))

    def finaliser() -> int | None:
        with reading(engine) as session:
            session.execute(sa.select(sa.func.pg_sleep(0.15)))
        return claim_finaliser(engine, run_id, lease_s=60)

    assert at_once([slow_retry, finaliser])[1] is None


def test_a_failed_run_says_why_and_can_be_resumed(engine: sa.Engine) -> None:
    """Failure is recorded once, leaves final runs alone and is not the end."""
    run_id = ready_run(engine)
    claim_finaliser(engine, run_id, lease_s=60)
    fail_run(engine, run_id, fence=1, error="Why.", actor="worker/control")
    fail_run(engine, run_id, fence=1, error="Again.", actor="worker/control")
    row = run(engine, run_id)
    assert (row.state, row.error) == (RunState.FAILED, "Why.")
    assert len(entries(engine, action="run:failed")) == 1
    with pytest.raises(FencedOutError):
        finished(engine, run_id, 1)
    resume(engine, run_id)
    assert run(engine, run_id).error is None
    assert claim_finaliser(engine, run_id, lease_s=60) == 2
    finished(engine, run_id, 2)
    fail_run(engine, run_id, fence=2, error="Late.", actor="worker/control")
    assert run(engine, run_id).state == RunState.DONE


def test_only_its_finaliser_can_fail_a_run(engine: sa.Engine) -> None:
    """One that was replaced, or comes before any claim, fails nothing."""
    run_id = ready_run(engine)
    assert not fail_run(engine, run_id, fence=0, error="Why.", actor="worker/a")
    claim_finaliser(engine, run_id, lease_s=-1)
    assert claim_finaliser(engine, run_id, lease_s=60) == 2
    before = snapshot(engine)
    assert not fail_run(engine, run_id, fence=1, error="Late.", actor="worker/a")
    assert snapshot(engine) == before
    finished(engine, run_id, 2)
    assert run(engine, run_id).state == RunState.DONE


def test_a_finaliser_renews_its_lease_under_its_fence(engine: sa.Engine) -> None:
    """A renewed lease keeps others out; a replaced finaliser cannot renew."""
    run_id = ready_run(engine)
    claim_finaliser(engine, run_id, lease_s=-1)
    renew_finaliser(engine, run_id, fence=1, lease_s=60)
    assert claim_finaliser(engine, run_id, lease_s=60) is None
    renew_finaliser(engine, run_id, fence=1, lease_s=-1)
    assert claim_finaliser(engine, run_id, lease_s=60) == 2
    with pytest.raises(FencedOutError, match=run_id):
        renew_finaliser(engine, run_id, fence=1, lease_s=60)
    finished(engine, run_id, 2)
    with pytest.raises(FencedOutError):
        renew_finaliser(engine, run_id, fence=2, lease_s=60)

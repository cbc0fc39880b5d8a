# SPDX-License-Identifier: Apache-2.0
"""The lease protocol against a small model, under random interleavings."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ledger.entries import Action
from storage.engine import epoch_now, reading
from storage.errors import FencedOutError, StateConflictError
from storage.finalisers import claim_finaliser, finish_run
from storage.leases import (
    Blame,
    Claim,
    claim_ahead,
    claim_next,
    claim_shard,
    expire_leases,
    fail_attempt,
    heartbeat,
    release,
)
from storage.runs import resume_run, retry_dead_shards, stop_run
from storage.states import OPEN_RUN_STATES, RunState
from storage.suspects import MOST_EXTRA_ATTEMPTS, name_item_in_work
from storage.tables import ItemTable
from tests.support.databases import emptied, sqlite_copy
from tests.support.lease_model import ATTEMPTS, ModelRun, ModelShard
from tests.support.planted import (
    entries,
    finish,
    let_lease_run_out,
    plant_run,
    run,
    set_shard,
    shard,
    shard_ids,
)

SHARDS = 2
LEASE_S = 600.0
USER = "user/tester"
STOPS = {"paused": Action.RUN_PAUSED, "cancelled": Action.RUN_CANCELLED}
ENDS = ("finished", "released", "failed", "expired", "dead")

which_shard = st.integers(0, SHARDS - 1)
workers = st.sampled_from(["worker/a", "worker/b"])


class LeaseMachine(RuleBasedStateMachine):
    """Workers, any of which may be slow, dead or late, and a person who interferes."""

    #: Lends an engine on an empty database.
    database: Callable[[], AbstractContextManager[sa.Engine]]

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.engine = self.stack.enter_context(type(self).database())
        self.run_id = plant_run(
            self.engine, shards=SHARDS, shard_size=1, max_attempts=ATTEMPTS
        )
        self.ids = shard_ids(self.engine, self.run_id)
        self.model = ModelRun(shards=[ModelShard() for _ in self.ids])

    def teardown(self) -> None:
        """Every shard comes to an end, whatever happened before."""
        with self.stack:
            self._drive_to_the_end()

    def _drive_to_the_end(self) -> None:
        if self.model.state in STOPS:
            resume_run(self.engine, self.run_id, actor=USER)
        for shard_id, model in zip(self.ids, self.model.shards, strict=True):
            left = model.bound - model.attempt + MOST_EXTRA_ATTEMPTS + 1
            for _attempt in range(left):
                if shard(self.engine, shard_id).state in {"done", "dead"}:
                    break
                if shard(self.engine, shard_id).state == "running":
                    let_lease_run_out(self.engine, shard_id)
                    expire_leases(self.engine, actor="worker/control", backoff_s=0)
                else:
                    set_shard(self.engine, shard_id, not_before=None)
                    claim = claim_shard(
                        self.engine, shard_id, worker="worker/z", lease_s=LEASE_S
                    )
                    assert claim is not None, "a shard is lost"
                    fail_attempt(self.engine, claim, error="ValueError", backoff_s=0)
            assert shard(self.engine, shard_id).state in {"done", "dead"}

    def _of(self, claim: Claim) -> ModelShard:
        return self.model.shards[claim.shard_index]

    def _owns(self, claim: Claim) -> bool:
        return self._of(claim).owner == claim.attempt

    def _claimed(self, expected: int | None, claim: Claim | None) -> object:
        assert (None if claim is None else claim.shard_index) == expected
        if claim is None:
            return multiple()
        model = self._of(claim)
        model.claim()
        assert claim.attempt == model.attempt
        assert claim.single_steps == model.single_steps
        assert set(claim.condemned) == ({claim.first_item} & set(self._condemned()))
        return claim

    def _condemned(self) -> Iterator[int]:
        # Shards have one item each, so that their indexes are the same.
        return (i for i, found in enumerate(self.model.shards) if found.is_condemned)

    @rule(target=claims, which=which_shard, worker=workers)
    def follow_a_hint(self, which: int, worker: str) -> object:
        """A worker gets the shard that it was hinted at, if that is free."""
        is_free = self.model.is_open and self.model.shards[which].is_free
        claim = claim_shard(
            self.engine, self.ids[which], worker=worker, lease_s=LEASE_S
        )
        return self._claimed(which if is_free else None, claim)

    @rule(target=claims, worker=workers)
    def take_the_next(self, worker: str) -> object:
        """An embedded worker gets the run's first free shard."""
        expected = self.model.next_free()
        claim = claim_next(self.engine, self.run_id, worker=worker, lease_s=LEASE_S)
        return self._claimed(expected, claim)

    @rule(target=claims, worker=workers)
    def claim_ahead(self, worker: str) -> object:
        """A worker without a hint gets the first free shard that nobody hinted at."""
        expected = self.model.next_free(ahead=True)
        claim = claim_ahead(self.engine, "cpu", worker=worker, lease_s=LEASE_S)
        return self._claimed(expected, claim)

    @rule(which=which_shard)
    def hint(self, which: int) -> None:
        """The dispatcher hints at a waiting shard."""
        if self.model.shards[which].state == "pending":
            set_shard(self.engine, self.ids[which], dispatched_at=epoch_now())
            self.model.shards[which].hinted = True

    @rule(claim=claims)
    def beat(self, claim: Claim) -> None:
        """The owner hears whether it is still wanted; a late worker is refused."""

        def renew() -> bool:
            return heartbeat(self.engine, claim, lease_s=LEASE_S, batches_done=1)

        if self._owns(claim):
            assert renew() == self.model.is_open
            self._of(claim).silent = False
        else:
            self._refused(renew)

    @rule(claim=claims)
    def name_the_item(self, claim: Claim) -> None:
        """A worker in single steps says which item it is at."""

        def name() -> None:
            name_item_in_work(
                self.engine,
                claim.shard_id,
                attempt=claim.attempt,
                item_index=claim.first_item,
            )

        if self._owns(claim):
            name()
            self._of(claim).named = True
        else:
            self._refused(name)

    @rule(which=which_shard)
    def fall_silent(self, which: int) -> None:
        """A lease runs out and nobody has noticed yet."""
        if self.model.shards[which].state == "running":
            let_lease_run_out(self.engine, self.ids[which])
            self.model.shards[which].silent = True

    @rule(claim=claims)
    def die_at_the_item(self, claim: Claim) -> None:
        """A worker in single steps dies: its item is named and its lease runs out."""
        self.name_the_item(claim)
        if self._owns(claim):
            let_lease_run_out(self.engine, claim.shard_id)
            self._of(claim).silent = True

    @rule()
    def sweep(self) -> None:
        """The control worker ends silent attempts."""
        silent = [found for found in self.model.shards if found.silent]
        ended = expire_leases(self.engine, actor="worker/control", backoff_s=0)
        assert ended == len(silent)
        for found in silent:
            found.end_badly(counts=True, strikes=True)

    @rule(claim=claims)
    def deliver(self, claim: Claim) -> None:
        """The owner's results count; those of a late worker do not."""
        if self._owns(claim):
            finish(self.engine, claim)
            self._of(claim).finish()
        else:
            self._refused(lambda: finish(self.engine, claim))

    @rule(claim=claims)
    def give_back(self, claim: Claim) -> None:
        """A worker is asked to stop; a late one changes nothing."""
        release(self.engine, claim)
        if self._owns(claim):
            self._of(claim).give_back()

    @rule(claim=claims, blames=st.sampled_from(Blame))
    def fail(self, claim: Claim, blames: Blame) -> None:
        """A worker meets an error; a late one changes nothing."""
        state = fail_attempt(
            self.engine, claim, error="ValueError", blames=blames, backoff_s=0
        )
        if self._owns(claim):
            self._of(claim).end_badly(
                counts=blames is not Blame.NOBODY, strikes=blames is Blame.ITEM
            )
            assert state == self._of(claim).state
        else:
            assert state is None

    @rule(how=st.sampled_from(sorted(STOPS)))
    def stop(self, how: str) -> None:
        """A person pauses or cancels the run."""
        may = self.model.is_open or (self.model.state, how) == ("paused", "cancelled")

        def move() -> None:
            state, action = RunState(how), STOPS[how]
            stop_run(self.engine, self.run_id, state, action=action, actor=USER)

        self._moved(move, may=may)
        self.model.state = how if may else self.model.state

    @rule()
    def resume(self) -> None:
        """A person lets it go on."""
        may = self.model.state in STOPS
        self._moved(lambda: resume_run(self.engine, self.run_id, actor=USER), may=may)
        self.model.state = "open" if may else self.model.state

    @rule()
    def retry(self) -> None:
        """A person gives dead shards fresh attempts."""

        def revive() -> None:
            retry_dead_shards(self.engine, self.run_id, attempts=ATTEMPTS, actor=USER)

        self._moved(revive, may=self.model.retry())

    @rule()
    def finalise(self) -> None:
        """A finaliser ends the run when all its shards are final, and only then."""
        fence = claim_finaliser(self.engine, self.run_id, lease_s=LEASE_S)
        assert (fence is not None) == self.model.end()
        if fence is not None:
            finish_run(
                self.engine,
                self.run_id,
                fence=fence,
                state=RunState(self.model.state),
                result_digest=None,
                summary={},
                report={"json_sha256": "8" * 64},
                actor="worker/control",
            )

    def _moved(self, move: Callable[[], None], *, may: bool) -> None:
        if may:
            move()
        else:
            with pytest.raises(StateConflictError):
                move()

    def _refused(self, action: Callable[[], object]) -> None:
        with pytest.raises(FencedOutError):
            action()

    @invariant()
    def the_tables_agree_with_the_model(self) -> None:
        """States, attempts and bounds are what the protocol promises."""
        for shard_id, model in zip(self.ids, self.model.shards, strict=True):
            row = shard(self.engine, shard_id)
            assert (row.state, row.attempt, row.max_attempts) == (
                model.state,
                model.attempt,
                model.bound,
            )
        state = run(self.engine, self.run_id).state
        assert ("open" if state in OPEN_RUN_STATES else state) == self.model.state

    @invariant()
    def a_shard_is_finished_by_one_attempt(self) -> None:
        """Rows are those of the one attempt that finished, and none is there twice."""
        with reading(self.engine) as session:
            rows = [
                (i.item_index, i.score) for i in session.scalars(sa.select(ItemTable))
            ]
        assert sorted(rows) == [
            (index, found.finished_by)
            for index, found in enumerate(self.model.shards)
            if found.finished_by is not None
        ]

    @invariant()
    def each_attempt_ends_once_in_the_ledger(self) -> None:
        """Every claim but those of the owners has exactly one end."""
        claimed, ended = self._told("claimed"), self._told(*ENDS)
        owned = {
            (index, found.owner)
            for index, found in enumerate(self.model.shards)
            if found.owner is not None
        }
        assert len(set(claimed)) == len(claimed)
        assert len(set(ended)) == len(ended)
        assert set(claimed) - set(ended) == owned

    def _told(self, *verbs: str) -> list[tuple[int, object]]:
        return [
            (int(entry.object.rpartition("/")[2]), entry.details["attempt"])
            for entry in entries(self.engine)
            if entry.action.value in {f"shard:{verb}" for verb in verbs}
        ]


def _examine(
    database: Callable[[], AbstractContextManager[sa.Engine]],
    *,
    examples: int,
    steps: int,
) -> None:
    machine = type("Machine", (LeaseMachine,), {"database": staticmethod(database)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_interleaving_breaks_the_lease_protocol(sqlite_template: Path) -> None:
    """Whatever workers and people do in whatever order, one attempt counts, once."""

    @contextlib.contextmanager
    def copy() -> Iterator[sa.Engine]:
        with (
            tempfile.TemporaryDirectory() as folder,
            sqlite_copy(sqlite_template, Path(folder) / "copy.db") as engine,
        ):
            yield engine

    _examine(copy, examples=20, steps=30)


def test_postgresql_keeps_to_the_same_protocol(
    postgres_engine: sa.Engine, postgres_template: str
) -> None:
    """The same on the other database, with fewer steps."""

    @contextlib.contextmanager
    def empty() -> Iterator[sa.Engine]:
        emptied(postgres_template)
        yield postgres_engine

    _examine(empty, examples=6, steps=20)

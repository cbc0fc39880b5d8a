# SPDX-License-Identifier: Apache-2.0
"""The lease protocol against a small model, under random interleavings."""

import shutil
import tempfile
from collections.abc import Callable
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

from storage.engine import create_engine, reading
from storage.errors import FencedOutError
from storage.leases import (
    Claim,
    claim_next,
    claim_shard,
    expire_leases,
    fail_attempt,
    heartbeat,
    release,
)
from storage.tables import ItemTable
from tests.support.planted import (
    end_back_off,
    entries,
    finish,
    let_lease_run_out,
    plant_run,
    shard,
    shard_ids,
)

SHARDS = 2
ATTEMPTS = 2


class LeaseModel(RuleBasedStateMachine):
    """Several workers, any of which may be slow, dead or late, on two shards."""

    template: Path

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "model.db"
        shutil.copyfile(self.template, path)
        self.engine = create_engine(f"sqlite:///{path}")
        self.run_id = plant_run(
            self.engine, shards=SHARDS, shard_size=1, max_attempts=ATTEMPTS
        )
        self.ids = shard_ids(self.engine, self.run_id)
        #: What should be so: who owns a shard, what its attempts came to.
        self.owner: dict[int, int | None] = dict.fromkeys(self.ids)
        self.silent: set[int] = set()
        self.attempts = dict.fromkeys(self.ids, 0)
        self.bound = dict.fromkeys(self.ids, ATTEMPTS)
        self.state = dict.fromkeys(self.ids, "pending")
        self.finished_by: dict[int, int] = {}

    def teardown(self) -> None:
        """Nothing stays open."""
        self.engine.dispose()
        self.folder.cleanup()

    def _may_be_claimed(self, shard_id: int) -> bool:
        left = self.attempts[shard_id] < self.bound[shard_id]
        return left and (
            self.state[shard_id] == "pending"
            or (self.state[shard_id] == "running" and shard_id in self.silent)
        )

    def _note_claim(self, claim: Claim | None) -> object:
        if claim is None:
            return multiple()
        shard_id = claim.shard_id
        assert self._may_be_claimed(shard_id)
        self.attempts[shard_id] += 1
        assert claim.attempt == self.attempts[shard_id]
        self.state[shard_id] = "running"
        self.owner[shard_id] = claim.attempt
        self.silent.discard(shard_id)
        return claim

    def _owns(self, claim: Claim) -> bool:
        return self.owner[claim.shard_id] == claim.attempt

    def _end(self, shard_id: int) -> None:
        exhausted = self.attempts[shard_id] >= self.bound[shard_id]
        self.state[shard_id] = "dead" if exhausted else "pending"
        self.owner[shard_id] = None
        self.silent.discard(shard_id)
        end_back_off(self.engine, shard_id)

    @rule(target=claims, which=st.integers(0, SHARDS - 1), worker=st.sampled_from("ab"))
    def claim(self, which: int, worker: str) -> object:
        """A worker follows a hint."""
        shard_id = self.ids[which]
        possible = self._may_be_claimed(shard_id)
        claim = claim_shard(
            self.engine, shard_id, worker=f"worker/{worker}", lease_s=600
        )
        assert (claim is not None) == possible
        return self._note_claim(claim)

    @rule(target=claims)
    def claim_any(self) -> object:
        """A worker asks for the run's next shard and gets the first there is."""
        possible = [found for found in self.ids if self._may_be_claimed(found)]
        claim = claim_next(self.engine, self.run_id, worker="worker/c", lease_s=600)
        assert (claim.shard_id if claim else None) == next(iter(possible), None)
        return self._note_claim(claim)

    @rule(claim=claims)
    def beat(self, claim: Claim) -> None:
        """A worker says that it is alive; a late one learns that it is not."""
        if self._owns(claim):
            assert heartbeat(self.engine, claim, lease_s=600, batches_done=1)
            self.silent.discard(claim.shard_id)
        else:
            self._refused(
                lambda: heartbeat(self.engine, claim, lease_s=600, batches_done=1)
            )

    @rule(which=st.integers(0, SHARDS - 1))
    def fall_silent(self, which: int) -> None:
        """A lease runs out before anybody has noticed."""
        shard_id = self.ids[which]
        if self.state[shard_id] == "running":
            let_lease_run_out(self.engine, shard_id)
            self.silent.add(shard_id)

    @rule()
    def sweep(self) -> None:
        """The control worker ends silent attempts."""
        silent = set(self.silent)
        assert expire_leases(self.engine, actor="worker/control") == len(silent)
        for shard_id in silent:
            self._end(shard_id)

    @rule(claim=claims)
    def finish(self, claim: Claim) -> None:
        """A worker delivers, in time or too late."""
        if not self._owns(claim):
            self._refused(lambda: finish(self.engine, claim))
            return
        finish(self.engine, claim)
        assert claim.shard_id not in self.finished_by
        self.finished_by[claim.shard_id] = claim.attempt
        self.state[claim.shard_id] = "done"
        self.owner[claim.shard_id] = None
        self.silent.discard(claim.shard_id)

    @rule(claim=claims)
    def give_back(self, claim: Claim) -> None:
        """A worker is asked to stop."""
        release(self.engine, claim)
        if self._owns(claim):
            self.bound[claim.shard_id] += 1
            self.state[claim.shard_id] = "pending"
            self.owner[claim.shard_id] = None
            self.silent.discard(claim.shard_id)

    @rule(claim=claims)
    def fail(self, claim: Claim) -> None:
        """A worker meets an error."""
        state = fail_attempt(self.engine, claim, error="OSError")
        if self._owns(claim):
            self._end(claim.shard_id)
            assert state == self.state[claim.shard_id]
        else:
            assert state is None

    def _refused(self, action: Callable[[], object]) -> None:
        with pytest.raises(FencedOutError):
            action()

    @invariant()
    def the_tables_agree_with_the_model(self) -> None:
        """State and attempt of each shard are what the protocol promises."""
        for shard_id in self.ids:
            row = shard(self.engine, shard_id)
            assert row.state == self.state[shard_id]
            assert row.attempt == self.attempts[shard_id]
            assert row.max_attempts == self.bound[shard_id]

    @invariant()
    def a_shard_is_finished_by_one_attempt(self) -> None:
        """Rows and ledger entries are those of the one attempt that finished."""
        with reading(self.engine) as session:
            scores = {row.item_index: row.score for row in _rows(session)}
        done = {self.ids.index(found): by for found, by in self.finished_by.items()}
        assert scores == done
        told = entries(self.engine, action="shard:finished")
        assert {
            int(entry.object.rpartition("/")[2]): entry.details["attempt"]
            for entry in told
        } == done
        assert len(told) == len(done)

    @invariant()
    def each_attempt_ends_once_in_the_ledger(self) -> None:
        """Every claim but the running ones has exactly one end."""
        ends = ("finished", "released", "failed", "expired", "dead")
        claimed = _attempts(self.engine, ("claimed",))
        ended = _attempts(self.engine, ends)
        running = {
            (self.ids.index(found), attempt)
            for found, attempt in self.owner.items()
            if attempt is not None
        }
        assert len(set(claimed)) == len(claimed)
        assert len(set(ended)) == len(ended)
        assert set(claimed) - set(ended) == running


def _rows(session: sa.orm.Session) -> list[ItemTable]:
    return list(session.scalars(sa.select(ItemTable)))


def _attempts(engine: sa.Engine, verbs: tuple[str, ...]) -> list[tuple[int, object]]:
    return [
        (int(entry.object.rpartition("/")[2]), entry.details["attempt"])
        for entry in entries(engine)
        if entry.action.value in {f"shard:{verb}" for verb in verbs}
    ]


def test_no_interleaving_breaks_the_lease_protocol(sqlite_template: Path) -> None:
    """Whatever workers do in whatever order, one attempt's work counts, once."""

    class Model(LeaseModel):
        template = sqlite_template

    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

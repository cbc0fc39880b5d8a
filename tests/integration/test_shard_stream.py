# SPDX-License-Identifier: Apache-2.0
"""Shards overlap, and still each ends once, is given back, or fails alone."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import sqlalchemy as sa

from pipeline.embedded import create_embedded_run, run_embedded
from pipeline.planning import PreparedAudit, prepare
from pipeline.run_creation import create_run
from pipeline.services import Services
from pipeline.settings import load_settings
from pipeline.telemetry import Silence, Stage
from storage.engine import reading
from storage.errors import StorageError
from storage.objects import ObjectStore
from storage.runs import get_run, list_shards, resume_run
from storage.states import RunState, ShardState
from storage.tables import ItemTable
from tests.support.planted import set_shard
from tests.support.workspace import Workspace
from workers.process_state import QUEUE_VARIABLE, ProcessState
from workers.shard_task import run_shard

ITEMS = 24
SHARDS = ITEMS // 4
PATIENCE_S = 120.0


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Pictures for six shards."""
    return Workspace(folder=tmp_path / "work").lay_out(ITEMS)


@contextmanager
def _services(workspace: Workspace) -> Iterator[Services]:
    with workspace.environment():
        services = Services(
            settings=load_settings(), actor="user/test", own_roots=(workspace.folder,)
        )
        yield services
        services.close()


class GatedStore:
    """The real store, whose PUT of one shard waits at a gate."""

    def __init__(self, store: ObjectStore, *, shard: int) -> None:
        self._store = store
        self._name = f"/shards/{shard:06d}."
        self.reached = threading.Event()
        self.gate = threading.Event()

    def put(self, key: str, stream: BinaryIO, *, sha256: str) -> None:
        """The object is stored, once the gate is open."""
        if self._name in key:
            self.reached.set()
            assert self.gate.wait(PATIENCE_S)
        self._store.put(key, stream, sha256=sha256)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Heard(Silence):
    """What was told of the work, counted; stages by name."""

    def __init__(self) -> None:
        self.stages: Counter[Stage] = Counter()
        self.ends: Counter[str] = Counter()
        self.done = 0
        self.written = 0

    def stage(self, stage: Stage, seconds: float) -> None:
        """A stage is counted."""
        assert seconds >= 0
        self.stages[stage] += 1

    def shard(self, outcome: str) -> None:
        """An end is counted."""
        self.ends[outcome] += 1

    def items(self, *, done: int, failed: int) -> None:
        """Items are counted."""
        self.done += done + failed

    def bytes_written(self, count: int) -> None:
        """Bytes are counted."""
        self.written += count


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _states(services: Services, run_id: str) -> list[str]:
    return [shard.state for shard in list_shards(services.engine, run_id)]


def _records(services: Services, run_id: str) -> dict[int, bytes]:
    with reading(services.engine) as session:
        rows = session.execute(
            sa.select(ItemTable.item_index, ItemTable.record_digest).where(
                ItemTable.run_id == run_id
            )
        )
        return {row.item_index: row.record_digest for row in rows}


def _finish(services: Services, run_id: str, audit: PreparedAudit) -> str:
    """Return the digest of the run, opened again and worked to its end."""
    resume_run(services.engine, run_id, actor="user/test")
    assert run_embedded(services, run_id, audit.executor) is RunState.DONE
    return str(get_run(services.engine, run_id).result_digest)


def test_a_shard_is_computed_while_the_one_before_is_written(
    workspace: Workspace,
) -> None:
    """With a PUT that does not end, the next shard is computed all the same."""
    with _services(workspace) as services:
        audit = prepare(services, workspace.write_spec())
        run_id = create_embedded_run(services, audit)
        store = GatedStore(services.store, shard=0)
        services.__dict__["store"] = store
        seen: list[int] = []

        def count(items: int) -> None:
            seen.append(items)
            if sum(seen) == 8:
                # The second shard is computed, and the first is still being put.
                assert store.reached.wait(PATIENCE_S)
                assert _states(services, run_id)[0] == ShardState.RUNNING
                store.gate.set()

        state = run_embedded(services, run_id, audit.executor, on_items=count)
        assert state is RunState.DONE
        assert sum(seen) == ITEMS
        attempts = [shard.attempt for shard in list_shards(services.engine, run_id)]
        assert attempts == [1] * SHARDS


def test_all_three_leases_are_renewed(workspace: Workspace) -> None:
    """The shard being written, the one computed and the one ahead are kept."""
    workspace.variables["AFFIDAVIT_LEASE_S"] = "2"
    with _services(workspace) as services:
        audit = prepare(services, workspace.write_spec())
        run_id = create_embedded_run(services, audit)
        store = GatedStore(services.store, shard=0)
        services.__dict__["store"] = store

        def leases() -> list[float]:
            shards = list_shards(services.engine, run_id)
            return [s.lease_until for s in shards if s.lease_until is not None]

        seen: list[int] = []

        def renewed(items: int) -> None:
            seen.append(items)
            if sum(seen) != 8:
                return
            assert store.reached.wait(PATIENCE_S)
            _wait_until(lambda: len(leases()) == 3)
            before = max(leases())
            _wait_until(lambda: min(leases()) > before + 2)
            store.gate.set()

        state = run_embedded(services, run_id, audit.executor, on_items=renewed)
        assert state is RunState.DONE
        attempts = [shard.attempt for shard in list_shards(services.engine, run_id)]
        assert attempts == [1] * SHARDS


def test_a_shard_that_was_attempted_before_is_worked_on_alone(
    workspace: Workspace,
) -> None:
    """Nothing is written or waits beside it, so that it takes nothing along."""
    with _services(workspace) as services:
        audit = prepare(services, workspace.write_spec())
        run_id = create_embedded_run(services, audit)
        tried = list_shards(services.engine, run_id)[2]
        set_shard(services.engine, tried.id, attempt=1)
        beside: dict[int, list[int]] = {0: [], 1: []}

        def look(_items: int) -> None:
            states = _states(services, run_id)
            is_its_turn = states[2] == ShardState.RUNNING
            beside[is_its_turn].append(states.count(ShardState.RUNNING))

        state = run_embedded(services, run_id, audit.executor, on_items=look)
        assert state is RunState.DONE
        assert beside[True] == [1]
        assert max(beside[False]) > 1


def test_what_happens_to_shards_is_told(workspace: Workspace) -> None:
    """Whoever measures hears of each batch, stage and end, from whatever thread."""
    with _services(workspace) as services:
        heard = Heard()
        services.__dict__["telemetry"] = heard
        audit = prepare(services, workspace.write_spec(run={"shard_size": 8}))
        run_id = create_embedded_run(services, audit)
        assert run_embedded(services, run_id, audit.executor) is RunState.DONE
    assert heard.stages == {
        Stage.WAIT: ITEMS // 4,
        Stage.EXPLAIN: ITEMS // 4,
        Stage.PACK: 3,
        Stage.PUT: 3,
        Stage.FINISH: 3,
    }
    assert heard.ends == {"finished": 3}
    assert heard.done == ITEMS
    assert heard.written > 0


def test_stopping_finishes_what_is_written_and_gives_the_rest_back(
    workspace: Workspace,
) -> None:
    """Stopped with one shard being put, none is left running and none is lost."""
    undisturbed = workspace.run(workspace.write_spec())["result_digest"]
    with _services(workspace) as services:
        audit = prepare(services, workspace.write_spec(run={"shard_size": 8}))
        run_id = create_embedded_run(services, audit)
        store = GatedStore(services.store, shard=0)
        services.__dict__["store"] = store

        def stop() -> bool:
            if not store.reached.is_set():
                return False
            store.gate.set()
            return True

        state = run_embedded(services, run_id, audit.executor, stop=stop)
        assert state is RunState.INTERRUPTED
        states = Counter(_states(services, run_id))
        assert states == {ShardState.DONE: 1, ShardState.PENDING: 2}
        assert _finish(services, run_id, audit) == undisturbed


def test_a_store_that_fails_in_the_writer_ends_the_run_in_order(
    workspace: Workspace,
) -> None:
    """The failure is told, everything is given back, and resuming gives the digest."""
    undisturbed = workspace.run(workspace.write_spec())["result_digest"]
    with _services(workspace) as services:
        audit = prepare(services, workspace.write_spec())
        run_id = create_embedded_run(services, audit)
        folder = workspace.objects / "runs" / run_id / "shards"
        folder.parent.mkdir(parents=True)
        # A file where the folder of the shards has to be.
        folder.write_text("in the way")
        with pytest.raises(StorageError):
            run_embedded(services, run_id, audit.executor)
        assert get_run(services.engine, run_id).state == RunState.INTERRUPTED
        assert set(_states(services, run_id)) == {ShardState.PENDING}
        folder.unlink()
        assert _finish(services, run_id, audit) == undisturbed


def test_a_writer_that_lost_its_lease_writes_nothing(workspace: Workspace) -> None:
    """While a shard is put another attempt takes it: the other one's rows stand."""
    with _services(workspace) as services:
        audit = prepare(services, workspace.write_spec())
        run_id = create_embedded_run(services, audit)
        store = GatedStore(services.store, shard=0)
        services.__dict__["store"] = store

        def take_over(_items: int) -> None:
            if store.reached.is_set() and not store.gate.is_set():
                with services.engine.begin() as connection:
                    connection.execute(
                        sa.text(
                            "UPDATE shards SET attempt = 2, state = 'pending' "
                            "WHERE shard_index = 0"
                        )
                    )
                store.gate.set()

        state = run_embedded(services, run_id, audit.executor, on_items=take_over)
        assert state is RunState.DONE
        first = list_shards(services.engine, run_id)[0]
        assert first.attempt == 3
        assert str(first.object_key).endswith(".a3.parquet")
        assert len(_records(services, run_id)) == ITEMS


@pytest.mark.parametrize("budget_mb", ["0", "2048"])
def test_a_worker_goes_from_run_to_run_with_different_networks(
    tmp_path: Path, budget_mb: str
) -> None:
    """After one hint it works through two runs, whatever the memory for networks."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(8)
    workspace.variables["AFFIDAVIT_MODEL_CACHE_MB"] = budget_mb
    specs = [workspace.write_spec(), _other_network(workspace)]
    alone = [workspace.run(spec)["run"] for spec in specs]
    workspace.variables[QUEUE_VARIABLE] = "cpu"
    with _services(workspace) as services:
        queued = [
            create_run(services, prepare(services, spec), queue="cpu") for spec in specs
        ]
        state = ProcessState(services)
        first = list_shards(services.engine, queued[0])[0].id
        run_shard(state, first, publish=lambda _shard, _queue: None)
        for run_id, same in zip(queued, alone, strict=True):
            assert _states(services, run_id) == [ShardState.DONE] * 2
            assert _records(services, run_id) == _records(services, same)
        kept = [state.loaded_context(run_id) is not None for run_id in queued]
        assert kept.count(True) == (2 if budget_mb == "2048" else 1)


def _other_network(workspace: Workspace) -> Path:
    """Return a spec of another architecture over the same pictures."""
    import torch
    from torchvision import models

    torch.manual_seed(1)
    network = models.squeezenet1_0(weights=None, num_classes=5)
    torch.save(network.state_dict(), workspace.folder / "other.pt")
    return workspace.write_spec(
        "other.yaml",
        audit="other",
        model={"source": "torchvision:squeezenet1_0", "weights": "other.pt"},
    )

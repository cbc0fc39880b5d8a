# SPDX-License-Identifier: Apache-2.0
"""A deployment to break: real servers behind proxies, workers that are restarted.

A supervisor starts a worker again when its main process has ended, as Kubernetes and
systemd do. After every fault the same must hold: `FaultRig.require_exact`.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import sqlalchemy as sa
import torch
import torchvision
import yaml
from PIL import Image

from pipeline.embedded import create_embedded_run, run_embedded
from pipeline.planning import prepare
from pipeline.services import Services
from pipeline.settings import Settings
from pipeline.verification import verify_run
from storage.engine import create_engine, reading
from storage.objects import open_store
from storage.runs import get_run
from storage.states import RunState, ShardState
from storage.tables import ItemTable, RunTable, ShardTable
from storage.worker_registry import live_workers
from tests.support.deployment import Deployment, deployed
from tests.support.places import StorePlace
from tests.support.processes import ManagedProcess
from tests.support.s3_fault_proxy import S3FaultProxy, s3_fault_proxy
from tests.support.servers import (
    PostgresServer,
    RedisServer,
    S3Server,
    serve_postgres,
    serve_redis,
    serve_s3,
)
from tests.support.tcp_proxy import TcpProxy, tcp_proxy
from workers.submission import submit

#: Shards of a run; `make soak` asks for more.
SHARDS = int(os.environ.get("AFFIDAVIT_FAULT_SHARDS", "60"))
#: How often each fault is done, each time on a run of its own.
ROUNDS = int(os.environ.get("AFFIDAVIT_FAULT_ROUNDS", "1"))
ITEMS_A_SHARD = 2
LEASE_S = 3.0
#: Longest wait for a run to end, whatever was done to it.
PATIENCE_S = 120.0 + 2 * SHARDS


def write_dataset(folder: Path) -> Path:
    """Return the spec of an audit of a small network over small pictures.

    One item is no picture, so that failed items are among those that are counted.
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    generator = np.random.default_rng(11)
    for number in range(SHARDS * ITEMS_A_SHARD):
        path = pictures / f"{number:05d}.png"
        if number == 5:
            path.write_bytes(b"no picture")
            continue
        coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 96)).save(path)
    torch.manual_seed(3)
    model = torchvision.models.get_model("squeezenet1_1", weights=None, num_classes=7)
    torch.save(model.state_dict(), folder / "weights.pt")
    spec = {
        "audit": "faults",
        "model": {
            "source": "torchvision:squeezenet1_1",
            "weights": "weights.pt",
            "arguments": {"num_classes": 7},
            "preprocess": {"resize": 96, "crop": 96},
        },
        "data": {"source": "pictures/"},
        "metrics": ["completeness"],
        "privacy": {"gallery": "none"},
        "run": {
            "batch_size": ITEMS_A_SHARD,
            "shard_size": ITEMS_A_SHARD,
            "threads": 1,
            # Random kills hit the same small shard more often than in real life.
            "max_attempts": 20,
        },
    }
    path = folder / "audit.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@dataclass(kw_only=True)
class FaultRig:
    """Servers, proxies and workers, and what must hold of a run in the end."""

    deployment: Deployment
    spec: Path
    expected: str
    redis: RedisServer
    postgres: PostgresServer
    s3: S3Server
    broker_line: TcpProxy
    database_line: TcpProxy
    store: S3FaultProxy
    services: Services
    #: On the database itself, past the proxy.
    engine: sa.Engine
    workers: dict[str, ManagedProcess] = field(default_factory=dict)
    _supervised: threading.Event = field(default_factory=threading.Event)

    def submit(self, spec: Path | None = None) -> str:
        """Return the id of a queued run."""
        run_id, _warnings = submit(self.services, spec or self.spec)
        return run_id

    def wait_until(self, holds: Callable[[], bool], complaint: str) -> None:
        """Return once the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{complaint}\n{self.deployment.logs()}")
            time.sleep(0.02)

    def shards(self, run: str) -> list[ShardTable]:
        """Return the run's shards in order."""
        with reading(self.engine) as session:
            return list(
                session.scalars(
                    sa.select(ShardTable)
                    .where(ShardTable.run_id == run)
                    .order_by(ShardTable.shard_index)
                )
            )

    def done(self, run: str) -> int:
        """Return how many shards are done."""
        with reading(self.engine) as session:
            return int(
                session.scalar(
                    sa.select(sa.func.count()).where(
                        ShardTable.run_id == run, ShardTable.state == ShardState.DONE
                    )
                )
                or 0
            )

    def wait_for_done(self, run: str, shards: int) -> None:
        """At least so many shards are done."""
        self.wait_until(
            lambda: self.done(run) >= shards, f"{run}: no {shards} shards get done"
        )

    def state(self, run: str) -> str:
        """Return the run's state."""
        return get_run(self.engine, run).state

    def wait_for_end(self, run: str, *states: RunState) -> RunTable:
        """Return the run once it is in one of the states, done by default."""
        wanted = states or (RunState.DONE,)
        self.wait_until(
            lambda: self.state(run) in wanted, f"run {run} does not become {wanted}"
        )
        return get_run(self.engine, run)

    def require_exact(self, run: str, *, digest: str | None = None) -> None:
        """The run is done and everything in it is there exactly once.

        Every item of the manifest has one row; every shard one artifact, which its
        done attempt wrote; the digest is the undisturbed run's; the ledger verifies.
        """
        found = self.wait_for_end(run)
        assert found.result_digest == (digest or self.expected)
        with reading(self.engine) as session:
            rows = session.scalars(
                sa.select(ItemTable.item_index).where(ItemTable.run_id == run)
            ).all()
        assert Counter(rows) == dict.fromkeys(range(found.items_total), 1)
        shards = self.shards(run)
        assert {shard.state for shard in shards} == {ShardState.DONE}
        for shard in shards:
            assert shard.object_key is not None
            assert f".a{shard.attempt}." in shard.object_key
        verdict = verify_run(self.services, run)
        assert verdict["failures"] == []
        assert verdict["ok"]
        assert verdict["signatures_checked"]

    def items(self, run: str) -> dict[int, ItemTable]:
        """Return the run's rows by their place in the manifest."""
        with reading(self.engine) as session:
            rows = session.scalars(sa.select(ItemTable).where(ItemTable.run_id == run))
            return {row.item_index: row for row in rows}

    def attempts(self, run: str) -> int:
        """Return the largest number of attempts that a shard needed."""
        return max(shard.attempt for shard in self.shards(run))

    def start(self, name: str, queue: str, **more: str) -> None:
        """A supervised worker is being started."""
        process = ManagedProcess(
            argv=self.deployment.command("worker", "--queue", queue, "--name", name),
            log=self.deployment.folder / f"{name}.log",
            is_ready=lambda: None,
            environment=self.deployment.environment | more,
            folder=self.deployment.folder,
        )
        process.start()
        self.workers[name] = process

    def calm(self) -> None:
        """All servers answer, nothing is on the lines, every worker is ready."""
        self.store.plan = lambda _method, _path: None
        self.store.after = lambda _method, _path, _status: None
        self.store.done.clear()
        self.broker_line.refuses = self.database_line.refuses = False
        for server in (self.redis, self.postgres, self.s3):
            server.ensure_running()
        self.wait_until(self._is_ready, "the workers do not come back")

    def _is_ready(self) -> bool:
        children = {name: self.child(name) for name in self.workers}
        if None in children.values():
            return False
        # A worker that was killed still stands in the registry, as its former self.
        born = {n: c.create_time() for n, c in children.items() if c is not None}
        alive = {worker.name: worker for worker in live_workers(self.engine)}
        return all(
            name in alive and alive[name].seen_at > born[name] for name in self.workers
        )

    def holder(self, run: str, *names: str) -> str | None:
        """Return a worker of those named that has a shard of the run in work."""
        for shard in self.shards(run):
            name = (shard.worker or "").partition("/")[2].partition("@")[0]
            if shard.state == ShardState.RUNNING and name in names:
                return name
        return None

    def catch_at_work(self, run: str, *names: str) -> str:
        """Return a worker of those named, once it has a shard of the run in work."""
        found: list[str] = []

        def caught() -> bool:
            holder = self.holder(run, *names)
            if holder is not None:
                found.append(holder)
            return bool(found)

        self.wait_until(caught, f"none of {names} gets a shard of {run}")
        return found[0]

    def says(self, name: str, words: str) -> bool:
        """Whether the worker's log holds the words."""
        log = self.deployment.folder / f"{name}.log"
        return words in log.read_text(errors="replace")

    def supervise(self) -> None:
        """Workers that ended are started again, until the rig is taken down."""

        def watch() -> None:
            while not self._supervised.wait(0.2):
                for process in list(self.workers.values()):
                    if not process.is_running:
                        process.start()

        threading.Thread(target=watch, daemon=True).start()

    def forget(self, name: str) -> ManagedProcess:
        """Return a worker that is not started again when it ends."""
        return self.workers.pop(name)

    def child(self, name: str) -> psutil.Process | None:
        """Return the pool process of a worker, if it has one at the moment."""
        try:
            children = psutil.Process(self.workers[name].pid).children()
        except psutil.NoSuchProcess:
            return None
        # Beside it there is multiprocessing's resource tracker.
        found = [c for c in children if "spawn_main" in " ".join(_command_line(c))]
        return found[0] if found else None

    def stop(self) -> None:
        """No process is left."""
        self._supervised.set()
        time.sleep(0.3)
        for process in self.workers.values():
            process.kill()


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def signal_tree(pid: int, number: signal.Signals) -> None:
    """A process and everything that it started get the signal."""
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            os.kill(process.pid, number)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def embedded_digest(folder: Path, spec: Path) -> str:
    """Return the digest of the undisturbed run, in one process."""
    settings = Settings(
        home=folder / "alone", device="cpu", allowed_roots=str(folder), broker_url=None
    )
    services = Services(settings=settings, actor="test/undisturbed")
    audit = prepare(services, spec)
    run_id = create_embedded_run(services, audit)
    assert run_embedded(services, run_id, audit.executor) is RunState.DONE
    digest = get_run(services.engine, run_id).result_digest
    services.close()
    assert digest is not None
    return digest


@contextmanager
def fault_rig(folder: Path, **more: str) -> Iterator[FaultRig]:
    """Lend a deployment with a control worker, two CPU workers and a beat."""
    spec = write_dataset(folder)
    expected = embedded_digest(folder, spec)
    with ExitStack() as stack:
        redis, postgres = (
            stack.enter_context(serve_redis()),
            stack.enter_context(serve_postgres()),
        )
        s3 = stack.enter_context(serve_s3())
        broker_line = stack.enter_context(tcp_proxy(_port(redis.url)))
        database_line = stack.enter_context(tcp_proxy(_port(postgres.url)))
        store = stack.enter_context(s3_fault_proxy(_port(s3.url)))
        direct = postgres.create_database()
        config = replace(s3.config, endpoint_url=f"http://127.0.0.1:{store.port}")
        deployment = stack.enter_context(
            deployed(
                folder,
                database_url=_behind(direct, database_line.port),
                place=StorePlace(url=f"s3://{s3.create_bucket()}/audits", s3=config),
                broker_url=_behind(redis.url, broker_line.port),
                AFFIDAVIT_LEASE_S=str(LEASE_S),
                AFFIDAVIT_HINT_TIMEOUT_S="4",
                AFFIDAVIT_BACKOFF_S="0.5",
                AFFIDAVIT_S3_READ_TIMEOUT_S="2",
                **more,
            )
        )
        services = Services(
            settings=_settings(deployment.environment), actor="test/submitter"
        )
        rig = FaultRig(
            deployment=deployment,
            spec=spec,
            expected=expected,
            redis=redis,
            postgres=postgres,
            s3=s3,
            broker_line=broker_line,
            database_line=database_line,
            store=store,
            services=services,
            engine=create_engine(direct),
        )
        stack.callback(rig.engine.dispose)
        stack.callback(services.close)
        stack.callback(rig.stop)
        rig.start("control-1", "control")
        rig.start("cpu-1", "cpu")
        rig.start("cpu-2", "cpu")
        rig.supervise()
        deployment.start("beat", "beat")
        deployment.wait_for_workers("control-1", "cpu-1", "cpu-2")
        yield rig


def _behind(url: str, port: int) -> str:
    """Return the URL with the proxy's port."""
    return url.replace(f":{_port(url)}/", f":{port}/")


def _settings(environment: dict[str, str]) -> Settings:
    prefix = "AFFIDAVIT_"
    values: dict[str, Any] = {
        name.removeprefix(prefix).lower(): value
        for name, value in environment.items()
        if name.startswith(prefix)
    }
    return Settings(**values)


def leftovers(rig: FaultRig, run: str) -> set[str]:
    """Return the objects of the run's shards that no done row names."""
    url = rig.deployment.variables["AFFIDAVIT_OBJECT_STORE_URL"]
    store = open_store(url, rig.services.s3_config)
    named = {shard.object_key for shard in rig.shards(run)}
    return set(store.keys(f"runs/{run}/shards/")) - named

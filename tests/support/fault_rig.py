# SPDX-License-Identifier: Apache-2.0
"""A deployment to break, and what must hold of a run that was broken.

A supervisor starts a worker again when its main process has ended, as Kubernetes and
systemd do. After every fault the same must hold: `FaultRig.require_exact`.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import sqlalchemy as sa

from pipeline.orphans import collect_orphans
from pipeline.services import Services
from pipeline.verification import verify_run
from storage.engine import reading
from storage.runs import get_run
from storage.states import RunState, ShardState
from storage.tables import ItemTable, RunTable, ShardTable
from storage.worker_registry import live_workers
from tests.support.deployment import Deployment
from tests.support.fault_audit import SHARDS, Undisturbed
from tests.support.processes import ManagedProcess
from tests.support.s3_fault_proxy import S3FaultProxy
from tests.support.servers import PostgresServer, RedisServer, S3Server
from tests.support.tcp_proxy import TcpProxy
from workers.submission import submit

#: Longest wait for a run to end, whatever was done to it.
PATIENCE_S = 120.0 + 2 * SHARDS


@dataclass(kw_only=True)
class FaultRig:
    """Servers, proxies and workers, and what must hold of a run in the end."""

    deployment: Deployment
    spec: Path
    expected: Undisturbed
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

    def wait_until(
        self, holds: Callable[[], bool], complaint: str, *, every_s: float = 0.05
    ) -> None:
        """Return once the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{complaint}\n{self.deployment.logs()}")
            time.sleep(every_s)

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
        done attempt wrote; the digest is the undisturbed run's; the collector leaves
        no other object of it; the ledger verifies, and so does what was left.
        """
        found = self.wait_for_end(run)
        assert found.result_digest == (digest or self.expected.digest)
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
        if self.leftovers(run):
            collect_orphans(self.services, older_than_s=0)
            assert self.leftovers(run) == set()
        verdict = verify_run(self.services, run)
        assert verdict["failures"] == []
        assert verdict["ok"]
        assert verdict["signatures_checked"]

    def leftovers(self, run: str) -> set[str]:
        """Return the objects of the run's shards that no done row names."""
        named = {shard.object_key for shard in self.shards(run)}
        return set(self.services.store.keys(f"runs/{run}/shards/")) - named

    def items(self, run: str) -> dict[int, ItemTable]:
        """Return the run's rows by their place in the manifest."""
        with reading(self.engine) as session:
            rows = session.scalars(sa.select(ItemTable).where(ItemTable.run_id == run))
            return {row.item_index: row for row in rows}

    def attempts(self, run: str) -> int:
        """Return the largest number of attempts that a shard needed."""
        return max(shard.attempt for shard in self.shards(run))

    def start(self, name: str, queue: str, *, log: Path | None = None) -> None:
        """A supervised worker is being started; its log is named like it by default."""
        process = ManagedProcess(
            argv=self.deployment.command("worker", "--queue", queue, "--name", name),
            log=log or self.deployment.folder / f"{name}.log",
            is_ready=lambda: None,
            environment=self.deployment.environment,
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

        self.wait_until(caught, f"none of {names} gets a shard of {run}", every_s=0.005)
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

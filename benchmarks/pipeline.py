# SPDX-License-Identifier: Apache-2.0
"""Whether the pipeline spends its time on the network: the table of its promises.

embedded     an audit beside a bare DataLoader loop (`end_to_end.py`, ResNet-50)
worker       one Celery worker on Redis, PostgreSQL and S3 beside the embedded run
two-workers  two workers of one thread beside one worker of one thread
plumbing     of a shard: claim, heartbeat, manifest, leaves, pack, PUT, finish with rows
             and ledger, signing, beside 30 s of work; each call is timed where it is
             made
planning     a manifest of 1,000,000 rows (`scale.py`)
rows         of items to PostgreSQL, fsync on, 8192 a transaction
recovery     from SIGKILL of a worker to the claim of its shard by another

Servers are those of the tests, started here. A run of workers lasts from the first
claim to the last finish, by the database's clock; they have the network loaded before.
Sides alternate and ratios are taken within a round before their median is. All of it is
measured on the CPU; what only a GPU can show (busy time, sustained speed) is not
measured here.

Parts may be measured one at a time and a round at a time: with `--json` the figures are
added to those in the file, and the table is of all of them.

    python benchmarks/pipeline.py --part embedded --rounds 1 --json figures.json

Usage: pipeline.py [--quick] [--json FILE] [--rounds N] [--part NAME]...
"""

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import sqlalchemy as sa
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import end_to_end
import promises
import scale

from pipeline.embedded import run_embedded
from pipeline.planning import PreparedAudit, prepare
from pipeline.run_creation import create_run
from pipeline.services import Services
from pipeline.settings import Settings
from storage.bulk import insert_rows
from storage.engine import create_engine, transaction
from storage.runs import get_run, list_shards
from storage.states import RunState, ShardState
from storage.tables import ItemTable, LocationTable, ShardTable
from tests.support.databases import upgraded
from tests.support.deployment import Deployment, deployed
from tests.support.places import StorePlace
from tests.support.planted import plant_run
from tests.support.servers import serve_postgres, serve_redis, serve_s3
from workers.submission import submit

NETWORK = "torchvision:resnet50"
#: Seconds of work that plumbing is held against.
SHARD_S = 30.0
LEASE_S = 20.0
#: Items of a shard's transaction, as many as a shard has at most.
ROWS_A_TRANSACTION = 8192
#: Where the program calls what is not the network's work.
PLUMBING = (
    ("pipeline.embedded", "claim_next"),
    ("pipeline.embedded", "write_signed_checkpoint"),
    ("pipeline.lease_keeper", "heartbeat"),
    ("pipeline.manifest_slice", "read_locations"),
    ("pipeline.shard_writing", "salted_leaves"),
    ("pipeline.shard_writing", "write_artifact"),
    ("pipeline.shard_writing", "finish_shard"),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int
    embedded_items: int
    items: int
    planned: int
    rows: int

    @classmethod
    def of(cls, *, quick: bool, rounds: int | None) -> "Sizes":
        """Return the full sizes, or those that show whether it works at all."""
        if quick:
            return cls(rounds or 1, 32, 64, 20_000, 20_000)
        return cls(rounds or 3, 320, 256, 1_000_000, 200_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Servers and pictures that the parts share."""

    folder: Path
    sizes: Sizes
    database_url: Callable[[], str]
    broker_url: Callable[[], str]
    place: Callable[[], StorePlace]
    files: list[Path]

    @contextmanager
    def deployment(self, **more: str) -> Iterator[Deployment]:
        """A deployment of its own on the servers, with a control worker."""
        with deployed(
            self.folder,
            database_url=self.database_url(),
            place=self.place(),
            broker_url=self.broker_url(),
            **{"AFFIDAVIT_LEASE_S": "60", "AFFIDAVIT_HINT_TIMEOUT_S": "60", **more},
        ) as deployment:
            deployment.start_worker("control-1", "control")
            deployment.wait_for_workers("control-1")
            yield deployment

    def spec(self, name: str, **run: object) -> Path:
        """Return a spec over the first pictures."""
        path = end_to_end.write_spec(self.folder, NETWORK, self.files[:16], **run)
        return path.rename(path.with_name(f"{name}.yaml"))


def main() -> int:
    """Print the table; return 0 however it comes out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few items, one round")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="add the figures to those in it"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="of each part (3)")
    parser.add_argument("--part", action="append", choices=list(PARTS))
    options = parser.parse_args()
    if options.quick and options.json:
        parser.error("--quick only shows that it works; leave out --json")
    print(
        f"torch {torch.__version__}, {end_to_end.THREADS} cores, load average"
        f" {os.getloadavg()[0]:.1f}, CUDA: {torch.cuda.is_available()}",
        flush=True,
    )
    known = promises.read(options.json) if options.json else []
    with _bench(Sizes.of(quick=options.quick, rounds=options.rounds)) as bench:
        for part in options.part or PARTS:
            load, started = os.getloadavg()[0], time.perf_counter()
            print(f"  {part}: load average {load:.1f}", flush=True)
            figures = PARTS[part](bench)
            known.append(promises.measured(part, figures, load=load))
            if options.json:
                promises.write(options.json, known)
            print(f"  {part}: {time.perf_counter() - started:.0f} s", flush=True)
    print(f"\n{promises.table(known)}")
    print(f"\nload average at the end: {os.getloadavg()[0]:.1f}")
    return 0


def _say(part: str, text: str) -> None:
    print(f"    {part}: {text}", flush=True)


@contextmanager
def _bench(sizes: Sizes) -> Iterator[Bench]:
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="affidavit-bench-"))
        )
        redis = stack.enter_context(serve_redis())
        postgres = stack.enter_context(serve_postgres(durable=True))
        s3 = stack.enter_context(serve_s3())

        def broker_url() -> str:
            redis.clear()
            return redis.url

        yield Bench(
            folder=folder,
            sizes=sizes,
            database_url=postgres.create_database,
            broker_url=broker_url,
            place=lambda: StorePlace(
                url=f"s3://{s3.create_bucket()}/bench", s3=s3.config
            ),
            files=end_to_end.write_photographs(folder / "photos", sizes.items),
        )


def embedded_beside_a_loop(bench: Bench) -> promises.Figures:
    """Return a ratio a round."""
    place = bench.folder / "alone"
    files = end_to_end.write_photographs(place / "photos", bench.sizes.embedded_items)
    ratios: list[float] = []

    def heard(ratio: float) -> None:
        ratios.append(ratio)
        _say("embedded", f"round {len(ratios)} of {bench.sizes.rounds}: {ratio:.3f}")

    end_to_end.measure(place, files, NETWORK, bench.sizes.rounds, heard)
    return _figures("embedded", ratios)


def worker_beside_embedded(bench: Bench) -> promises.Figures:
    """Return a ratio a round."""
    shard = max(16, bench.sizes.items // 2)
    spec = bench.spec("celery", shard_size=shard)
    home = bench.folder / "embedded"
    alone = Services(settings=Settings(home=home, device="cpu"), actor="user/bench")
    alone_spec = prepare(_with_tables(alone), spec)

    def embedded() -> float:
        run_id = create_run(alone, alone_spec, queue="embedded")
        run_embedded(alone, run_id, alone_spec.executor)
        return _span(alone.engine, run_id)

    ratios = []
    with bench.deployment() as deployment:
        deployment.start_worker("cpu-1", "cpu")
        deployment.wait_for_workers("cpu-1")
        services = _services(deployment)
        _say("worker", "warming up")
        embedded()
        _worked(services, deployment, spec)
        for turn in range(bench.sizes.rounds):
            sides = [embedded, lambda: _worked(services, deployment, spec)]
            order = (0, 1) if turn % 2 == 0 else (1, 0)
            found = {which: sides[which]() for which in order}
            ratios.append(found[0] / found[1])
            _say("worker", f"embedded {found[0]:.1f} s, worker {found[1]:.1f} s")
        services.close()
    alone.close()
    return _figures("worker", ratios)


def two_workers_beside_one(bench: Bench) -> promises.Figures:
    """Return a ratio a round."""
    spec = bench.spec("scaling", shard_size=16, threads=1)
    ratios = []
    with bench.deployment() as deployment:
        services = _services(deployment)
        for turn in range(bench.sizes.rounds):
            found: dict[int, float] = {}
            for count in (1, 2) if turn % 2 == 0 else (2, 1):
                names = [f"cpu-{turn}-{count}-{number}" for number in range(count)]
                workers = [deployment.start_worker(name, "cpu") for name in names]
                deployment.wait_for_workers(*names)
                _warm_up(services, deployment, spec, names)
                found[count] = _worked(services, deployment, spec)
                _say("two-workers", f"{count} at work: {found[count]:.1f} s")
                for worker in workers:
                    worker.stop()
            ratios.append(found[1] / found[2])
        services.close()
    return _figures("two-workers", ratios)


def plumbing(bench: Bench) -> promises.Figures:
    """Return the share of each run; one before them loads the libraries."""
    shard = max(32, bench.sizes.items // 2)
    spec = bench.spec("plumbing", shard_size=shard)
    with bench.deployment() as deployment:
        services = _services(deployment)
        audit = prepare(services, spec)
        _say("plumbing", "warming up")
        _plumbing_of_a_run(services, audit)
        shares = []
        for _ in range(bench.sizes.rounds):
            seconds = _plumbing_of_a_run(services, audit)
            for name, each in sorted(seconds.items(), key=lambda pair: -pair[1]):
                _say("plumbing", f"{name:26s} {1e3 * each:8.1f} ms a shard")
            shares.append(sum(seconds.values()) / SHARD_S)
            _say("plumbing", f"a shard of {shard} items: {shares[-1]:.4f}")
        services.close()
    return _figures("plumbing", shares)


def _plumbing_of_a_run(services: Services, audit: PreparedAudit) -> dict[str, float]:
    """Return the seconds a shard that each kind of call took in a run."""
    run_id = create_run(services, audit, queue="embedded")
    seconds: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for module, name in PLUMBING:
            home = importlib.import_module(module)
            timed = _timed(getattr(home, name), seconds, name)
            stack.enter_context(mock.patch.object(home, name, timed))
        put = _timed(services.store.put, seconds, "put")
        stack.enter_context(mock.patch.object(services.store, "put", put))
        run_embedded(services, run_id, audit.executor)
    shards = len(list_shards(services.engine, run_id))
    return {name: total / shards for name, total in seconds.items()}


def planning(bench: Bench) -> promises.Figures:
    """Return seconds and megabytes of one manifest."""
    targets: list[scale.Target] = []
    _say("planning", f"laying out {bench.sizes.planned:,} files")
    with scale.laid_out(bench.sizes.planned) as place:
        figures = scale.measure_planning(place, bench.sizes.planned, targets)
    return _figures("planning", [figures["seconds"]], [targets[0].measured])


def rows_to_postgres(bench: Bench) -> promises.Figures:
    """Return rows a second, a round each."""
    engine = create_engine(upgraded(bench.database_url()))
    run_id = plant_run(engine, shards=1, shard_size=1)
    rows = [_item(run_id, index) for index in range(1, bench.sizes.rows + 1)]
    _say("rows", "writing what the rows refer to")
    for part in _parts(rows):
        with transaction(engine) as session:
            insert_rows(session, LocationTable, [_location(row) for row in part])
    paces = []
    for _ in range(bench.sizes.rounds):
        with transaction(engine) as session:
            session.execute(sa.delete(ItemTable).where(ItemTable.run_id == run_id))
        started = time.perf_counter()
        for part in _parts(rows):
            with transaction(engine) as session:
                insert_rows(session, ItemTable, part)
        paces.append(len(rows) / (time.perf_counter() - started))
        _say("rows", f"{paces[-1]:,.0f} a second")
    engine.dispose()
    return _figures("rows", paces)


def recovery(bench: Bench) -> promises.Figures:
    """Return the seconds of one loss."""
    spec = bench.spec("recovery", shard_size=bench.sizes.items, threads=1)
    with bench.deployment(AFFIDAVIT_LEASE_S=str(LEASE_S)) as deployment:
        services = _services(deployment)
        deployment.start("beat", "beat")
        workers = {
            name: deployment.start_worker(name, "cpu") for name in ("cpu-1", "cpu-2")
        }
        deployment.wait_for_workers(*workers)
        run_id, _warnings = submit(services, spec)

        def shard() -> ShardTable:
            return list_shards(services.engine, run_id)[0]

        deployment.wait_until(lambda: shard().batches_done > 0, "no batch gets done")
        name = _name_of(shard().worker)
        killed = time.time()
        _kill_all(workers[name].pid)
        _say("recovery", "a worker was killed")
        deployment.wait_until(lambda: shard().attempt > 1, "nobody takes it over")
        wait = (shard().started_at or 0.0) - killed
        services.close()
    return _figures("recovery", [wait])


def _figures(part: str, *figures: list[float]) -> promises.Figures:
    """Return the figures under what is promised of the part, in that order."""
    return dict(zip(promises.promised(part), figures, strict=True))


def _with_tables(services: Services) -> Services:
    from storage.schema import ensure_embedded_schema

    ensure_embedded_schema(
        services.settings.resolved_database_url, actor=services.actor
    )
    return services


def _services(deployment: Deployment) -> Services:
    """Return the deployment as this process reaches it."""
    prefix = "AFFIDAVIT_"
    values: dict[str, Any] = {
        name.removeprefix(prefix).lower(): value
        for name, value in deployment.environment.items()
        if name.startswith(prefix)
    }
    return Services(settings=Settings(**values), actor="user/bench")


def _worked(services: Services, deployment: Deployment, spec: Path) -> float:
    """Return how long the deployment's workers took for a run of the spec."""
    run_id, _warnings = submit(services, spec)
    document = deployment.wait_for_state(run_id, RunState.DONE, RunState.INCOMPLETE)
    if document["state"] != RunState.DONE or document["items"]["failed"]:
        raise RuntimeError(f"The run ended as {document['state']}.")
    return _span(services.engine, run_id)


def _warm_up(
    services: Services, deployment: Deployment, spec: Path, names: list[str]
) -> None:
    """Every worker has worked on a shard, so its network is loaded."""
    warm: set[str] = set()
    while not set(names) <= warm:
        run_id, _warnings = submit(services, spec)
        deployment.wait_for_state(run_id, RunState.DONE)
        for shard in list_shards(services.engine, run_id):
            warm.add(_name_of(shard.worker))


def _span(engine: sa.Engine, run_id: str) -> float:
    """Return the seconds from the run's first claim to its last finish."""
    if get_run(engine, run_id).state not in {RunState.DONE, RunState.INCOMPLETE}:
        raise RuntimeError("The run has not ended.")
    shards = list_shards(engine, run_id)
    if {shard.state for shard in shards} != {ShardState.DONE}:
        raise RuntimeError("Not every shard is done.")
    started = min(shard.started_at or 0.0 for shard in shards)
    return max(shard.finished_at or 0.0 for shard in shards) - started


def _name_of(worker: str | None) -> str:
    """Return the name under which a worker was started."""
    return str(worker).partition("/")[2].partition("@")[0]


def _kill_all(pid: int) -> None:
    parent = psutil.Process(pid)
    for process in [*parent.children(recursive=True), parent]:
        os.kill(process.pid, signal.SIGKILL)


def _timed(
    call: Callable[..., Any], seconds: dict[str, float], name: str
) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            seconds[name] += time.perf_counter() - started

    return timed


def _parts(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), ROWS_A_TRANSACTION):
        yield rows[start : start + ROWS_A_TRANSACTION]


def _item(run_id: str, index: int) -> dict[str, Any]:
    """Return a row like those of a real run with two metrics."""
    return {
        "run_id": run_id,
        "item_index": index,
        "method": "gradcam",
        "target_rule": "predicted",
        "policy": "fixed:keep=0.1",
        "shard_index": index // ROWS_A_TRANSACTION,
        "item_id": f"{index:032x}",
        "subject_token": None,
        "status": "done",
        "reason": None,
        "input_sha256": f"{index:064x}",
        "truth_sha256": None,
        "predicted": index % 1000,
        "target": index % 1000,
        "label": None,
        "score": 1 / index,
        "keep_requested": 0.1,
        "keep_achieved": 0.10001,
        "cut": 0.5 / index,
        "metrics": {"deletion_auc": 1 / index, "insertion_auc": 0.5},
        "absences": {},
        "record_digest": index.to_bytes(32, "big"),
    }


def _location(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": row["run_id"],
        "item_index": row["item_index"],
        "item_id": row["item_id"],
        "uri": f"/data/{row['item_index']}.png",
        "size_bytes": 1,
        "version": None,
        "label": None,
        "mask_uri": None,
        "subject_token": None,
        "groups": {},
        "salt": None,
        "duplicate_of": None,
    }


PARTS: dict[str, Callable[[Bench], promises.Figures]] = {
    "embedded": embedded_beside_a_loop,
    "worker": worker_beside_embedded,
    "two-workers": two_workers_beside_one,
    "plumbing": plumbing,
    "planning": planning,
    "rows": rows_to_postgres,
    "recovery": recovery,
}


if __name__ == "__main__":
    raise SystemExit(main())

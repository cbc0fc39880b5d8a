# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - the path must be mended first
"""What the ledger costs, each figure beside its target.

    python benchmarks/ledger.py [--postgres | --database URL] [--only PART ...]

- writing: entries a second, one outbox row a transaction, eight writers, a sequencer.
- draining: entries a second that the sequencer takes from a full outbox.
- verifying: entries a second that a whole verification reads, hashes and checks.
- proving: what the evidence of one item takes of a ledger of a million entries.
- overhead: the share of a run's time that is spent on the ledger, and the size of the
  evidence of one of its items; always embedded, on SQLite and a folder.

Without a URL a SQLite file in a temporary folder is used; `--postgres` starts a server
whose commits reach the disk. Figures are medians of three rounds. Beside each rate
stands that of a second of this process's own computing time (`per_cpu_s`): on a machine
that others use the two differ. `docs/performance.md` holds the figures of a reference
machine.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

# As a script this file would stand before the package of the same name.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).parent]
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sqlalchemy as sa

from ledger.checkpoint import Checkpoint, SigningKey
from ledger.entries import Action, Entry
from ledger.merkle import CompactRange, HashTree, leaf_hash, verify_inclusion
from ledger.verifier import examine_entries
from storage.bulk import insert_rows
from storage.engine import create_engine, reading, transaction
from storage.events import record
from storage.ledger_places import place_rows, read_places
from storage.ledger_writer import read_entries, sequence
from storage.schema import upgrade
from storage.stored_tree import StoredTree, stored_nodes
from storage.tables import (
    EntryTable,
    LedgerHeadTable,
    LedgerNodeTable,
    LedgerPlaceTable,
    OutboxTable,
)

WRITERS = 8
ROUNDS = 3
#: Entries of each planted run: its plan, its shards, its end.
OF_A_RUN = 1_000
LEAVES_OF_A_SHARD = 256
PROOFS = 100
TARGETS: dict[str, tuple[str, float]] = {
    "written_per_s": (">=", 400),
    "drained_per_s": (">=", 4_000),
    "verified_per_s": (">=", 20_000),
    "proof_ms_median": ("<=", 10),
    "overhead_percent": ("<=", 1),
    "item_bundle_bytes": ("<=", 20_000),
}
EMPTIED = (EntryTable, OutboxTable, LedgerNodeTable, LedgerPlaceTable, LedgerHeadTable)
#: What a run does for its ledger, by the module that has it.
LEDGER_WORK = {
    "storage.events": ("record",),
    "storage.ledger_writer": ("sequence",),
    "storage.ledger_signing": ("write_checkpoint",),
    "pipeline.item_leaves": ("salted_leaves",),
}


class Rate:
    """So many things a second, by the clock and by this process's computing time."""

    def __init__(self, name: str, count: int, work: Callable[[], object]) -> None:
        """The work is done three times, which must each do as many things."""
        by_clock, by_cpu = [], []
        for _ in range(ROUNDS):
            clock, cpu = time.perf_counter(), time.process_time()
            work()
            by_clock.append(count / (time.perf_counter() - clock))
            by_cpu.append(count / (time.process_time() - cpu))
        self.figures = {
            f"{name}_per_s": round(statistics.median(by_clock)),
            f"{name}_per_cpu_s": round(statistics.median(by_cpu)),
        }


def writing(engine: sa.Engine, entries: int) -> dict[str, Any]:
    """Return the rate at which eight writers and one sequencer record entries."""
    share = entries // WRITERS

    def write(writer: int) -> None:
        for number in range(share):
            with transaction(engine) as session:
                _record(session, f"run/r{writer}/item/{number}")

    def all_of_them() -> None:
        threads = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            sequence(engine, 1000)
        _drain(engine)

    return Rate("written", share * WRITERS, all_of_them).figures


def draining(engine: sa.Engine, entries: int) -> dict[str, Any]:
    """Return the rate at which the sequencer empties an outbox."""
    by_clock, by_cpu = [], []
    for _ in range(ROUNDS):
        with transaction(engine) as session:
            for number in range(entries):
                _record(session, f"run/r/item/{number}")
        clock, cpu = time.perf_counter(), time.process_time()
        _drain(engine)
        by_clock.append(entries / (time.perf_counter() - clock))
        by_cpu.append(entries / (time.process_time() - cpu))
    return {
        "drained_per_s": round(statistics.median(by_clock)),
        "drained_per_cpu_s": round(statistics.median(by_cpu)),
    }


def verifying(engine: sa.Engine, entries: int) -> dict[str, Any]:
    """Return the rate of a whole verification, reading included."""
    with transaction(engine) as session:
        for number in range(entries):
            _record(session, f"run/r/item/{number}")
    _drain(engine)
    tree = CompactRange()
    for _index, _body, leaf in read_entries(engine):
        tree.append(leaf)
    key = SigningKey.generate("bench/log")
    note = key.sign(Checkpoint("bench/log", tree.size, tree.root()))

    def verify() -> None:
        verdict = examine_entries(read_entries(engine), [note], key.verifier)
        if not verdict.ok or verdict.covered != tree.size:
            raise RuntimeError(f"The ledger does not hold: {verdict.failures[:3]}.")

    return Rate("verified", tree.size, verify).figures


def proving(engine: sa.Engine, size: int) -> dict[str, Any]:
    """Return what finding and proving an item's entries takes, each time from nothing.

    That is: the entries of its run and shard, looked up; a path for each to the root;
    the path of the item's leaf to the root of its shard.
    """
    root = _plant(engine, size)
    shard_tree = [
        leaf_hash(str(number).encode()) for number in range(LEAVES_OF_A_SHARD)
    ]
    times, cpu_times, shown = [], [], []
    for step in range(PROOFS):
        run = (step * 7_919) % (size // OF_A_RUN)
        part = f"shard/{(step * 104_729) % (OF_A_RUN - 2)}"
        started, cpu = time.perf_counter(), time.process_time()
        found = list(read_places(engine, f"r{run}", parts=("", part), until=size))
        with reading(engine) as session:
            tree = StoredTree(session)
            proofs = [tree.inclusion_proof(index, size) for index, _, _ in found]
        HashTree(shard_tree).inclusion_proof(step, LEAVES_OF_A_SHARD)
        times.append((time.perf_counter() - started) * 1000)
        cpu_times.append((time.process_time() - cpu) * 1000)
        for (index, body, _), proof in zip(found, proofs, strict=True):
            verify_inclusion(leaf_hash(body), index, size, proof, root)
        shown.append(len(found))
    if set(shown) != {3}:
        raise RuntimeError(
            "Each item must be shown its run's plan and end and a shard."
        )
    return {
        "proof_ms_median": round(statistics.median(times), 2),
        "proof_ms_worst": round(max(times), 2),
        "proof_cpu_ms_median": round(statistics.median(cpu_times), 2),
        "proof_entries": size,
    }


def _plant(engine: sa.Engine, size: int) -> bytes:
    """Return the root of a ledger of so many entries, written without the outbox."""
    tree = CompactRange()
    for first in range(0, size, 10_000):
        rows: list[dict[str, Any]] = []
        nodes: list[dict[str, Any]] = []
        for index in range(first, min(first + 10_000, size)):
            run, place = divmod(index, OF_A_RUN)
            last = place == OF_A_RUN - 1
            part = "" if place == 0 or last else f"/shard/{place - 1}"
            body = Entry(
                at="2026-01-01T00:00:00Z",
                actor="worker/bench",
                action=Action.SHARD_FINISHED if part else Action.RUN_PLANNED,
                object=f"run/r{run}{part}",
            ).to_bytes()
            leaf = leaf_hash(body)
            rows.append({"idx": index, "leaf_hash": leaf, "body": body})
            completed = tree.append(leaf)
            nodes += [
                {"level": level, "idx": at, "hash": node}
                for level, at, node in stored_nodes(tree.size, completed)
            ]
        with transaction(engine) as session:
            insert_rows(session, EntryTable, rows)
            insert_rows(session, LedgerNodeTable, nodes)
            places = place_rows((row["idx"], row["body"]) for row in rows)
            insert_rows(session, LedgerPlaceTable, places)
    return tree.root()


def overhead(folder: Path, items: int) -> dict[str, Any]:
    """Return the ledger's share of a run without metrics, and the size of a bundle.

    No metrics: with them the run takes longer and the share is smaller.
    """
    from pipeline.embedded import run_embedded
    from pipeline.item_evidence import write_evidence_of_item
    from pipeline.planning import prepare
    from pipeline.run_creation import create_run
    from pipeline.services import Services
    from pipeline.settings import Settings
    from storage.manifests import find_location
    from storage.runs import get_run
    from storage.schema import ensure_embedded_schema
    from tests.support.photographs import write_photographs, write_spec

    os.environ["OMP_NUM_THREADS"] = "1"
    write_photographs(folder / "photos", items)
    spec = write_spec(
        folder / "audit.yaml",
        metrics=[],
        run={"batch_size": 8, "shard_size": 32, "threads": 1},
    )
    settings = Settings(home=folder / "home", allowed_roots=str(folder))
    services = Services(settings=settings, actor="user/bench")
    ensure_embedded_schema(settings.resolved_database_url, actor=services.actor)
    audit = prepare(services, spec)
    spent = _Spent()
    shares = []
    for _ in range(ROUNDS):
        before = spent.seconds
        started = time.perf_counter()
        with _measured(spent):
            run_id = create_run(services, audit, queue="embedded")
            run_embedded(services, run_id, audit.executor)
        shares.append((spent.seconds - before) / (time.perf_counter() - started) * 100)
    found = get_run(services.engine, run_id)
    bundle = folder / "item.zip"
    started = time.perf_counter()
    location = find_location(services.engine, found.id, str(items // 2))
    if location is None:
        raise RuntimeError("The run has no item in its middle.")
    write_evidence_of_item(services, found, location, bundle)
    evidence_s = time.perf_counter() - started
    services.close()
    return {
        "overhead_percent": round(statistics.median(shares), 2),
        "overhead_items": items,
        "item_bundle_bytes": bundle.stat().st_size,
        "item_bundle_ms": round(evidence_s * 1000, 1),
    }


class _Spent:
    """Seconds in the ledger's functions; what one calls of another counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = threading.local()
        self._lock = threading.Lock()

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, whose time is counted."""

        def call(*arguments: Any, **named: Any) -> Any:
            if getattr(self._inside, "now", False):
                return function(*arguments, **named)
            self._inside.now = True
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self._inside.now = False
                with self._lock:
                    self.seconds += time.perf_counter() - started

        return call


@contextmanager
def _measured(spent: _Spent) -> Iterator[None]:
    """Whoever uses one of the ledger's functions uses the timed one."""
    with ExitStack() as stack:
        for home, names in LEDGER_WORK.items():
            for name in names:
                function = getattr(sys.modules[home], name)
                timed = spent.timed(function)
                for module in list(sys.modules.values()):
                    if getattr(module, "__dict__", {}).get(name) is function:
                        stack.enter_context(mock.patch.object(module, name, timed))
        yield


def _record(session: Any, obj: str) -> None:
    record(session, Action.ITEM_READ, obj, actor="user/bench", details={"count": 1})


def _drain(engine: sa.Engine) -> None:
    while sequence(engine, 1000):
        pass


@contextmanager
def _empty(url: str | None) -> Iterator[sa.Engine]:
    """Lend an engine on an upgraded database whose ledger is empty and unguarded."""
    with tempfile.TemporaryDirectory() as name:
        target = url or f"sqlite:///{name}/bench.db"
        upgrade(target, actor="user/bench")
        engine = create_engine(target)
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                for table in ("entries", "outbox"):
                    connection.execute(
                        sa.text(f"ALTER TABLE ledger_{table} DISABLE TRIGGER ALL")
                    )
            else:
                for (trigger,) in connection.execute(
                    sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                ).all():
                    connection.execute(sa.text(f"DROP TRIGGER {trigger}"))
            for emptied in EMPTIED:
                connection.execute(sa.delete(emptied))
        yield engine
        engine.dispose()


def _verdicts(figures: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, (sign, limit) in TARGETS.items():
        if name in figures:
            kept = figures[name] >= limit if sign == ">=" else figures[name] <= limit
            found[name] = f"{'kept' if kept else 'MISSED'} ({sign} {limit:,g})"
    return found


def _parts(options: argparse.Namespace, url: str | None) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    sizes = {
        "writing": (writing, options.entries // 4),
        "draining": (draining, options.entries),
        "verifying": (verifying, options.entries * 3),
        "proving": (proving, options.proof_entries),
    }
    for part, (measure, size) in sizes.items():
        if part in options.only:
            with _empty(url) as engine:
                figures["database"] = engine.dialect.name
                figures |= measure(engine, size)
    if "overhead" in options.only:
        with tempfile.TemporaryDirectory() as name:
            figures |= overhead(Path(name), options.items)
    return figures


def main() -> None:
    """Print the figures and their verdicts as one JSON document."""
    parser = argparse.ArgumentParser(description="Measure the ledger.")
    parser.add_argument("--database", help="URL; its ledger is emptied")
    parser.add_argument("--postgres", action="store_true", help="start a server")
    parser.add_argument("--entries", type=int, default=8_000)
    parser.add_argument("--proof-entries", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=512)
    parts = ("writing", "draining", "verifying", "proving", "overhead")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--json", type=Path, help="also write the document here")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.database
        if options.postgres:
            from tests.support.servers import serve_postgres

            server = stack.enter_context(serve_postgres(durable=True))
            url = server.create_database()
        figures = _parts(options, url)
    figures["load_average"] = round(os.getloadavg()[0], 1)
    document = {"figures": figures, "verdicts": _verdicts(figures)}
    text = json.dumps(document, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

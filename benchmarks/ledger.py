# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - the path must be mended first
"""What the ledger costs: entries a second, draining, verifying, proofs, bundle size.

    python benchmarks/ledger.py [--database URL] [--entries N] [--proof-entries N]

Without a URL a SQLite file in a temporary folder is used. Figures are medians of three
rounds; `docs/performance.md` holds those of a reference machine.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

# As a script this file would stand before the package of the same name.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).parent]

import sqlalchemy as sa

from ledger.checkpoint import Checkpoint, SigningKey
from ledger.entries import Action, Entry
from ledger.merkle import CompactRange, HashTree, leaf_hash, verify_inclusion
from ledger.verifier import examine_entries
from storage.bulk import insert_rows
from storage.engine import create_engine, reading, transaction
from storage.events import record
from storage.ledger_writer import read_entries, sequence
from storage.schema import upgrade
from storage.stored_tree import StoredTree, stored_nodes
from storage.tables import EntryTable, LedgerNodeTable

WRITERS = 8
ROUNDS = 3


def _record(engine: sa.Engine, number: int) -> None:
    with transaction(engine) as session:
        record(
            session,
            Action.ITEM_READ,
            f"run/r/item/{number}",
            actor="user/bench",
            details={"count": number},
        )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one_by_one(engine: sa.Engine, entries: int) -> float:
    """Return entries a second: one outbox row a transaction, eight writers, ordered."""
    share = entries // WRITERS

    def write() -> None:
        for number in range(share):
            _record(engine, number)

    def all_of_them() -> None:
        threads = [threading.Thread(target=write) for _ in range(WRITERS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            sequence(engine, 1000)
        while sequence(engine, 1000):
            pass

    return share * WRITERS / _seconds(all_of_them)


def drained(engine: sa.Engine, entries: int) -> float:
    """Return entries a second that the sequencer takes from a full outbox."""
    with transaction(engine) as session:
        for number in range(entries):
            record(
                session, Action.ITEM_READ, f"run/r/item/{number}", actor="user/bench"
            )

    def drain() -> None:
        while sequence(engine, 1000):
            pass

    return entries / _seconds(drain)


def verified(engine: sa.Engine) -> float:
    """Return entries a second that a whole verification reads, hashes and checks."""
    found = list(read_entries(engine))
    tree = CompactRange()
    for _index, _body, leaf in found:
        tree.append(leaf)
    key = SigningKey.generate("bench/log")
    note = key.sign(Checkpoint("bench/log", tree.size, tree.root()))

    def verify() -> None:
        verdict = examine_entries(read_entries(engine), [note], key.verifier)
        assert verdict.ok

    return len(found) / _seconds(verify)


def proof_ms(engine: sa.Engine, size: int) -> tuple[float, float]:
    """Return median and worst milliseconds of a proof in a ledger of that size.

    Each starts with nothing in memory. Entries are planted without the outbox.
    """
    body = Entry(
        at="2026-01-01T00:00:00Z", actor="b", action=Action.ITEM_READ, object="x"
    ).to_bytes()
    tree = CompactRange()
    for first in range(0, size, 10_000):
        rows, nodes = [], []
        for index in range(first, min(first + 10_000, size)):
            leaf = leaf_hash(body + str(index).encode())
            rows.append({"idx": index, "leaf_hash": leaf, "body": b""})
            completed = tree.append(leaf)
            nodes += [
                {"level": level, "idx": place, "hash": node}
                for level, place, node in stored_nodes(tree.size, completed)
            ]
        with transaction(engine) as session:
            insert_rows(session, EntryTable, rows)
            insert_rows(session, LedgerNodeTable, nodes)
    times = []
    shard = HashTree(leaf_hash(str(n).encode()) for n in range(256))
    for step in range(100):
        index = (step * 7_919_333) % size
        started = time.perf_counter()
        with reading(engine) as session:
            proof = StoredTree(session).inclusion_proof(index, size)
        shard.inclusion_proof(step, 256)
        times.append((time.perf_counter() - started) * 1000)
        leaf = leaf_hash(body + str(index).encode())
        verify_inclusion(leaf, index, size, proof, tree.root())
    return statistics.median(times), max(times)


def _fresh(folder: Path, url: str | None, name: str) -> sa.Engine:
    target = url or f"sqlite:///{folder / name}.db"
    upgrade(target, actor="user/bench")
    engine = create_engine(target)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            for table in ("ledger_entries", "ledger_outbox"):
                connection.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            connection.execute(
                sa.text(
                    "TRUNCATE ledger_entries, ledger_outbox, ledger_nodes, ledger_head"
                )
            )
    else:
        while sequence(engine):
            pass
    return engine


def main() -> None:
    """Print the figures as one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database")
    parser.add_argument("--entries", type=int, default=8_000)
    parser.add_argument("--proof-entries", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = _fresh(folder, options.database, "rates")
        rates = [one_by_one(engine, options.entries // 4) for _ in range(ROUNDS)]
        drains = [drained(engine, options.entries) for _ in range(ROUNDS)]
        checks = [verified(engine) for _ in range(ROUNDS)]
        kind = engine.dialect.name
        engine.dispose()
        engine = _fresh(folder, options.database, "proofs")
        with reading(engine) as session:
            start = session.scalar(sa.select(sa.func.count()).select_from(EntryTable))
        if start:
            # SQLite guards its tables; plant into a file without the guards.
            with engine.begin() as connection:
                triggers = connection.execute(
                    sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                ).all()
                for (trigger,) in triggers:
                    connection.execute(sa.text(f"DROP TRIGGER {trigger}"))
                connection.execute(sa.text("DELETE FROM ledger_entries"))
        median, worst = proof_ms(engine, options.proof_entries)
        engine.dispose()
    print(
        json.dumps(
            {
                "database": kind,
                "entries_per_s_one_by_one": round(statistics.median(rates)),
                "entries_per_s_drained": round(statistics.median(drains)),
                "entries_per_s_verified": round(statistics.median(checks)),
                "proof_ms_median": round(median, 2),
                "proof_ms_worst": round(worst, 2),
                "proof_entries": options.proof_entries,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

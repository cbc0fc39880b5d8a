# SPDX-License-Identifier: Apache-2.0
"""Runs written straight into the tables, with no network and no files behind them."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import SecretStr

from ledger.entries import Entry
from pipeline.services import Services
from pipeline.settings import Settings
from storage.engine import epoch_now, reading, transaction
from storage.leases import Artifact, Claim, claim_shard, finish_shard
from storage.manifests import write_locations
from storage.runs import add_audit, add_run, complete_plan
from storage.tables import OutboxTable, RunTable, ShardTable
from storage.worker_registry import Announcement, announce

Value = TypeVar("Value")

BATCH_SIZE = 2


def location(run_id: str, index: int, **more: Any) -> dict[str, Any]:
    """Return a row of the manifest."""
    return {
        "run_id": run_id,
        "item_index": index,
        "item_id": f"{run_id}{index:020d}",
        "uri": f"/photos/{index}.png",
        "size_bytes": 10,
        "version": None,
        "label": None,
        "mask_uri": None,
        "subject_token": None,
        "groups": None,
        "salt": None,
        "duplicate_of": None,
        **more,
    }


def plant_run(
    engine: sa.Engine,
    *,
    shards: int = 2,
    shard_size: int = 2,
    queue: str = "cpu",
    max_attempts: int = 3,
    **columns: Any,
) -> str:
    """Return the id of a queued run."""
    total = shards * shard_size
    with transaction(engine) as session:
        audit = add_audit(session, name="a", spec={"audit": "a"}, spec_digest="0" * 64)
        values = {
            "audit_id": audit,
            "spec": {"audit": "a", "run": {"max_attempts": max_attempts}},
            "plan": {"batch_size": BATCH_SIZE},
            "spec_digest": "0" * 64,
            "model_digest": "1" * 64,
            "queue": queue,
        }
        run_id = add_run(session, values | columns)
        write_locations(session, [location(run_id, index) for index in range(total)])
        complete_plan(
            session,
            run_id,
            items_total=total,
            shard_size=shard_size,
            max_attempts=max_attempts,
            manifest_digest="2" * 64,
            actor="user/tester",
            details={},
        )
    return run_id


def shard_ids(engine: sa.Engine, run_id: str) -> list[int]:
    """Return the ids of a run's shards, in order."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(ShardTable.id)
                .where(ShardTable.run_id == run_id)
                .order_by(ShardTable.shard_index)
            )
        )


def shard(engine: sa.Engine, shard_id: int) -> ShardTable:
    """Return a shard's row."""
    with reading(engine) as session:
        return session.get_one(ShardTable, shard_id)


def run(engine: sa.Engine, run_id: str) -> RunTable:
    """Return a run's row."""
    with reading(engine) as session:
        return session.get_one(RunTable, run_id)


def set_shard(engine: sa.Engine, shard_id: int, **columns: Any) -> None:
    """The shard's columns have these values."""
    with transaction(engine) as session:
        session.execute(
            sa.update(ShardTable).where(ShardTable.id == shard_id).values(**columns)
        )


def set_run(engine: sa.Engine, run_id: str, **columns: Any) -> None:
    """The run's columns have these values."""
    with transaction(engine) as session:
        session.execute(
            sa.update(RunTable).where(RunTable.id == run_id).values(**columns)
        )


def let_lease_run_out(engine: sa.Engine, shard_id: int) -> None:
    """The shard's lease ended a second ago."""
    set_shard(engine, shard_id, lease_until=epoch_now() - 1)


def end_back_off(engine: sa.Engine, shard_id: int) -> None:
    """The shard may be claimed now, if nothing else forbids it."""
    set_shard(engine, shard_id, not_before=epoch_now() - 1)


def claimed(engine: sa.Engine, shard_id: int, worker: str = "worker/w1") -> Claim:
    """Return a claim that must succeed."""
    claim = claim_shard(engine, shard_id, worker=worker, lease_s=60)
    assert claim is not None
    return claim


def item_row(run_id: str, index: int, **more: Any) -> dict[str, Any]:
    """Return a row of an explained item."""
    return {
        "run_id": run_id,
        "item_index": index,
        "method": "gradcam",
        "target_rule": "predicted",
        "policy": "fixed:keep=0.1",
        "shard_index": 0,
        "item_id": f"{run_id}{index:020d}",
        "subject_token": None,
        "status": "done",
        "reason": None,
        "input_sha256": "3" * 64,
        "predicted": 1,
        "target": 1,
        "label": None,
        "score": 0.5,
        "keep_requested": 0.1,
        "keep_achieved": 0.1,
        "cut": 0.25,
        "metrics": {},
        "absences": {},
        "record_digest": b"\x04" * 32,
        **more,
    }


def rows_of(claim: Claim) -> list[dict[str, Any]]:
    """Return the rows of a claim's items; the score tells which attempt wrote them."""
    return [
        item_row(
            claim.run_id,
            index,
            shard_index=claim.shard_index,
            score=float(claim.attempt),
        )
        for index in range(claim.first_item, claim.first_item + claim.item_count)
    ]


def finish(engine: sa.Engine, claim: Claim) -> None:
    """The claim's shard is done."""
    finish_shard(
        engine,
        claim,
        artifact=Artifact(
            key=f"runs/{claim.run_id}/{claim.shard_index}.a{claim.attempt}",
            sha256="5" * 64,
            size_bytes=7,
        ),
        items=rows_of(claim),
        counts={"items_done": claim.item_count, "items_failed": 0},
    )


def entries(engine: sa.Engine, *, action: str | None = None) -> list[Entry]:
    """Return what waits in the ledger's outbox."""
    with reading(engine) as session:
        bodies = session.scalars(sa.select(OutboxTable.body).order_by(OutboxTable.id))
        found = [Entry.parse(body) for body in bodies]
    return [entry for entry in found if action in {None, entry.action.value}]


def snapshot(engine: sa.Engine) -> str:
    """Return everything that the tables hold, as text that can be compared."""
    tables = RunTable.metadata.sorted_tables
    with engine.connect() as connection:
        return json.dumps(
            {
                table.name: sorted(
                    repr(tuple(row)) for row in connection.execute(sa.select(table))
                )
                for table in tables
            },
            indent=1,
        )


def plant_worker(engine: sa.Engine, queue: str, *roots: str) -> None:
    """A worker of the queue is alive; nobody is behind it."""
    announce(
        engine,
        Announcement(
            name=f"{queue}-planted",
            queue=queue,
            device={"gpu": "cuda", "cpu": "cpu"}.get(queue, "none"),
            version="0",
            roots=roots,
        ),
    )


def at_once(actions: Sequence[Callable[[], Value]]) -> list[Value]:
    """Return the answers of actions that were started together in threads."""
    barrier = Barrier(len(actions))

    def start(action: Callable[[], Value]) -> Value:
        barrier.wait(20)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(start, actions))


def services_of(engine: sa.Engine, home: Path, **settings: Any) -> Services:
    """Return services on the engine's database."""
    url = engine.url.render_as_string(hide_password=False)
    return Services(
        settings=Settings(home=home, database_url=SecretStr(url), **settings),
        actor="worker/tester",
    )

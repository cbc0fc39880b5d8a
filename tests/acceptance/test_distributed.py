# SPDX-License-Identifier: Apache-2.0
"""One audit on real Redis, PostgreSQL and S3, with workers as processes."""

import signal
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.tables import ItemTable, LocationTable, ShardTable
from tests.support.deployment import Deployment, deployed
from tests.support.photographs import write_photographs, write_spec
from tests.support.places import StorePlace
from tests.support.processes import signal_tree

pytestmark = pytest.mark.timeout(600)

ITEMS = 42


def _lay_out(folder: Path) -> Path:
    """Return the spec of a dataset with two bad items in it."""
    write_photographs(folder / "photos", ITEMS - 2)
    (folder / "photos" / "0005-text.jpg").write_text("this is no picture")
    (folder / "photos" / "0011-empty.png").write_bytes(b"")
    return write_spec(folder / "audit.yaml")


def _embedded_digest(folder: Path, spec: Path) -> str:
    alone = Deployment(folder=folder, variables={"AFFIDAVIT_DEVICE": "cpu"})
    answer = alone.call("run", str(spec), "--json", "--home", str(folder / "alone"))
    assert answer.code == 0, answer.err
    assert answer.document["items"] == {"total": ITEMS, "done": ITEMS - 2, "failed": 2}
    return str(answer.document["result_digest"])


def test_two_workers_agree_with_one_process_even_when_one_is_killed(
    tmp_path: Path, broker_url: str, postgres_url: str, s3_place: StorePlace
) -> None:
    """Workers, one killed by SIGKILL mid-run, give the embedded run's exact digest."""
    spec = _lay_out(tmp_path)
    expected = _embedded_digest(tmp_path, spec)
    with deployed(
        tmp_path, database_url=postgres_url, place=s3_place, broker_url=broker_url
    ) as deployment:
        deployment.start_worker("control-1", "control")
        first = deployment.start_worker("cpu-1", "cpu")
        second = deployment.start_worker("cpu-2", "cpu")
        deployment.start("beat", "beat")
        deployment.wait_for_workers("control-1", "cpu-1", "cpu-2")

        undisturbed = deployment.call_apart("submit", str(spec), "--json")
        assert undisturbed.code == 0, undisturbed.err
        document = deployment.wait_for_state(undisturbed.document["run"], "done")
        assert document["result_digest"] == expected
        workers = _workers_of(deployment, document["run"])
        assert len(workers) == 2, f"both workers should have had shards: {workers}"

        # Held still until everything is queued, so that the kill cannot come too late.
        for worker in (first, second):
            signal_tree(worker.pid, signal.SIGSTOP)
        again = deployment.call("submit", str(spec), "--json").document["run"]
        for worker in (first, second):
            signal_tree(worker.pid, signal.SIGCONT)
        killed = _kill_at_work(deployment, again, first.pid)
        document = deployment.wait_for_state(again, "done", "incomplete")
        assert document["state"] == "done", deployment.logs()
        assert document["result_digest"] == expected
        assert killed, "the worker was not at work when it was killed"
        _assert_each_item_once(deployment, again)
        assert max(_attempts(deployment, again)) >= 2

        verdict = deployment.call_apart("verify", again, "--json")
        assert verdict.code == 0, verdict.out
        assert verdict.document["failures"] == []


def _kill_at_work(deployment: Deployment, run: str, pid: int) -> bool:
    """Kill a worker with all its processes while it holds a shard of the run."""
    engine = deployment.engine()

    def holds_a_shard() -> bool:
        with engine.connect() as connection:
            return bool(
                connection.scalar(
                    sa.select(sa.func.count()).where(
                        ShardTable.run_id == run,
                        ShardTable.state == "running",
                        ShardTable.worker.startswith("worker/cpu-1@"),
                    )
                )
            )

    deployment.wait_until(
        holds_a_shard, "worker cpu-1 never claims a shard", every_s=0.01
    )
    signal_tree(pid, signal.SIGKILL)
    held = holds_a_shard()
    engine.dispose()
    return held


def _workers_of(deployment: Deployment, run: str) -> set[str]:
    engine = deployment.engine()
    with engine.connect() as connection:
        found = connection.scalars(
            sa.select(ShardTable.worker).where(ShardTable.run_id == run)
        ).all()
    engine.dispose()
    return {str(name).partition("@")[0] for name in found}


def _attempts(deployment: Deployment, run: str) -> list[int]:
    engine = deployment.engine()
    with engine.connect() as connection:
        found = connection.scalars(
            sa.select(ShardTable.attempt).where(ShardTable.run_id == run)
        ).all()
    engine.dispose()
    return list(found)


def _assert_each_item_once(deployment: Deployment, run: str) -> None:
    engine = deployment.engine()
    with engine.connect() as connection:
        rows = connection.scalars(
            sa.select(ItemTable.item_index).where(ItemTable.run_id == run)
        ).all()
        manifest = connection.scalar(
            sa.select(sa.func.count()).where(LocationTable.run_id == run)
        )
    engine.dispose()
    assert manifest == ITEMS
    assert Counter(rows) == dict.fromkeys(range(ITEMS), 1)

# SPDX-License-Identifier: Apache-2.0
"""A run may be stopped, killed, cancelled or lose its store, and ends all the same."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import affidavit
from pipeline.executor import Executor
from storage.errors import StorageError
from tests.support.workspace import Workspace

ITEMS = 44
PATIENCE_S = 120.0


@contextmanager
def _command(workspace: Workspace, *arguments: object) -> Iterator[subprocess.Popen]:  # type: ignore[type-arg]
    """A command as a process of its own, killed if the block ends before it does."""
    with workspace.environment():
        process = subprocess.Popen(
            [sys.executable, "-m", "affidavit", *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait_for_shards(workspace: Workspace, count: int) -> None:
    """Return once that many shards are done and another one is being worked on."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(sqlite3.OperationalError):  # the tables are being made
            states = Counter(row["state"] for row in workspace.rows("shards"))
            if states["done"] >= count and states["running"]:
                return
        time.sleep(0.02)
    raise AssertionError(f"no {count} shards are done after {PATIENCE_S} s")


def _done(workspace: Workspace) -> int:
    return sum(row["state"] == "done" for row in workspace.rows("shards"))


def test_a_run_survives_ctrl_c_kill_and_cancel(tmp_path: Path) -> None:
    """Interrupted, killed and cancelled, a run gives the undisturbed run's digest."""
    workspace = Workspace(
        folder=tmp_path / "work", variables={"AFFIDAVIT_LEASE_S": "1.5"}
    ).lay_out(ITEMS)
    spec = workspace.write_spec(metrics=["deletion"])

    with _command(workspace, "run", spec) as process:
        _wait_for_shards(workspace, 1)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=PATIENCE_S)
    run = workspace.rows("runs")[0]
    assert process.returncode == 130, err
    assert f"affidavit resume {run['id']}" in err
    assert run["state"] == "interrupted"
    assert 1 <= _done(workspace) < ITEMS / 4
    assert all(row["state"] != "running" for row in workspace.rows("shards"))
    # An interrupted run is no broken evidence.
    verified = workspace.call("verify", run["id"])
    assert verified.code == 0
    assert "But the run is not finished, it is interrupted" in verified.out
    assert workspace.call("report", run["id"]).code == 2

    before = _done(workspace)
    with _command(workspace, "resume", run["id"]) as process:
        _wait_for_shards(workspace, before + 1)
        process.kill()
        process.communicate()
    assert workspace.rows("runs")[0]["state"] == "running"
    verdict = workspace.call("verify", run["id"], "--json")
    assert verdict.code == 0, verdict.out
    # What the killed process left in the outbox was ordered and signed first.
    assert verdict.document["entries_waiting"] == 0
    assert verdict.document["covered"] == verdict.document["entries"]
    assert workspace.rows("ledger_outbox") == []

    before = _done(workspace)
    with _command(workspace, "resume", run["id"], "--json") as process:
        _wait_for_shards(workspace, before + 1)
        assert workspace.call("cancel", run["id"]).code == 0
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert '"state": "cancelled"' in out
    assert _done(workspace) < ITEMS / 4

    resumed = workspace.call("resume", run["id"], "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.document["items"] == {"total": ITEMS, "done": ITEMS, "failed": 0}
    undisturbed = workspace.call("run", spec, "--json", "--home", tmp_path / "other")
    assert resumed.document["result_digest"] == undisturbed.document["result_digest"]
    indices = [row["item_index"] for row in workspace.rows("items")]
    assert sorted(indices) == list(range(ITEMS))
    bodies = [row["body"] for row in workspace.rows("ledger_entries")]
    assert sum(b'"action":"run:resumed"' in body for body in bodies) == 3
    assert workspace.call("verify", run["id"]).code == 0


def test_a_store_that_refuses_ends_the_run_with_4_until_it_is_mended(
    tmp_path: Path,
) -> None:
    """Without a store a run is kept, exits 4 and says how to go on once mended."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(6)
    spec = workspace.write_spec()
    workspace.home.mkdir()
    workspace.objects.write_text("a file where the folder should be")
    answer = workspace.call("run", spec, "--json")
    run = workspace.rows("runs")[0]["id"]
    assert (answer.code, answer.document["error"]["exit_code"]) == (4, 4)
    assert "is a file: give the path of a folder" in answer.err
    assert f"go on with: affidavit resume {run}" in answer.err
    assert answer.err.count("\n") == 1
    assert workspace.rows("items") == []

    workspace.objects.unlink()
    resumed = workspace.call("resume", run, "--json")
    assert resumed.code == 0, resumed.err
    undisturbed = workspace.call("run", spec, "--json", "--home", tmp_path / "other")
    assert resumed.document["result_digest"] == undisturbed.document["result_digest"]
    assert workspace.call("verify", run).code == 0


def _vanish(workspace: Workspace) -> None:
    workspace.objects.rename(workspace.folder / "kept")
    workspace.objects.write_text("unmounted")


def _come_back(workspace: Workspace) -> None:
    workspace.objects.unlink()
    (workspace.folder / "kept").rename(workspace.objects)


def _block_report(workspace: Workspace) -> None:
    run = workspace.rows("runs")[0]["id"]
    # Perhaps before the first shard is stored: shards are written beside the work.
    (workspace.objects / "runs" / run / "report.f1.html").mkdir(parents=True)


def _unblock_report(workspace: Workspace) -> None:
    run = workspace.rows("runs")[0]["id"]
    (workspace.objects / "runs" / run / "report.f1.html").rmdir()


@pytest.mark.parametrize(
    ("breaks", "mends", "left"),
    [
        (_vanish, _come_back, "interrupted"),
        (_block_report, _unblock_report, "finalising"),
    ],
    ids=["in mid-run", "at the report"],
)
def test_a_store_that_breaks_on_the_way_loses_nothing(
    tmp_path: Path,
    breaks: Callable[[Workspace], None],
    mends: Callable[[Workspace], None],
    left: str,
) -> None:
    """A store that is lost under way leaves a run that `resume` ends as planned."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(10)
    spec = workspace.write_spec()
    seen = 0

    def on_items(count: int) -> None:
        nonlocal seen
        seen += count
        if seen == 8:  # the second shard is not stored yet, the first perhaps not
            breaks(workspace)

    with workspace.environment(), pytest.raises(StorageError):
        affidavit.run(spec, on_items=on_items)
    assert workspace.rows("runs")[0]["state"] == left
    mends(workspace)
    resumed = workspace.call("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    undisturbed = workspace.call("run", spec, "--json", "--home", tmp_path / "other")
    assert resumed.document["result_digest"] == undisturbed.document["result_digest"]
    assert workspace.call("verify", "latest").code == 0


def test_resume_checks_the_weights_before_it_changes_anything(tmp_path: Path) -> None:
    """A run whose weights were altered stays interrupted, and the message says so."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(6)
    spec = workspace.write_spec()
    workspace.home.mkdir()
    workspace.objects.write_text("no folder")
    assert workspace.call("run", spec).code == 4
    weights = workspace.folder / "tiny.pt"
    genuine = weights.read_bytes()
    import torch

    state = torch.load(weights, weights_only=True)
    next(iter(state.values()))[0] += 1
    torch.save(state, weights)
    answer = workspace.call("resume", "latest")
    assert answer.code == 2
    assert "the file was changed since" in answer.err
    assert workspace.rows("runs")[0]["state"] == "interrupted"
    weights.write_bytes(genuine)
    workspace.objects.unlink()
    assert workspace.call("resume", "latest").code == 0


def test_dead_shards_are_missing_until_they_are_retried(tmp_path: Path) -> None:
    """A shard that used up its attempts leaves the run incomplete; `retry` ends it."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(10)
    spec = workspace.write_spec(
        criteria=["items_failed.count <= 0"], run={"max_attempts": 1}
    )
    seen = 0

    def on_items(count: int) -> None:
        nonlocal seen
        seen += count
        if seen == 8:
            raise ValueError("something that this shard alone brings about")

    with workspace.environment():
        outcome = affidavit.run(spec, on_items=on_items)
    assert (outcome.state, outcome.result_digest) == ("incomplete", None)
    assert outcome.criteria_met is False
    status = workspace.call("status", outcome.run, "--json").document
    assert [(each["shard"], each["error"]) for each in status["dead_shards"]] == [
        (1, "ValueError")
    ]
    assert f"affidavit retry {outcome.run}" in workspace.call("status", "latest").out
    assert workspace.call("verify", "latest").code == 0
    missing = workspace.call("show", "latest", "5")
    assert (missing.code, "its shard is dead" in missing.err) == (2, True)

    retried = workspace.call("retry", "latest", "--json")
    assert retried.code == 0, retried.err
    undisturbed = workspace.call("run", spec, "--json", "--home", tmp_path / "other")
    assert retried.document["result_digest"] == undisturbed.document["result_digest"]
    assert workspace.call("verify", outcome.run).code == 0
    assert workspace.call("report", "latest", "--bundle", "bundle.zip").code == 0
    assert workspace.call("verify", "bundle.zip").code == 0


@pytest.mark.parametrize(
    ("command", "state"), [("cancel", "cancelled"), ("pause", "paused")]
)
def test_a_stop_takes_one_heartbeat_and_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, state: str
) -> None:
    """The batch under way at the next heartbeat is the last; nothing is lost."""
    workspace = Workspace(
        folder=tmp_path / "work", variables={"AFFIDAVIT_LEASE_S": "1.5"}
    ).lay_out(4)
    spec = workspace.write_spec(run={"batch_size": 1, "shard_size": 4})
    explain = Executor.explain_staged
    batches: list[int] = []

    def stopped_in_the_first(self: Executor, items: Any) -> Any:
        batches.append(len(items.items))
        if len(batches) == 1:
            run = workspace.rows("runs")[0]["id"]
            assert workspace.call(command, run).code == 0
            # Whoever renews the lease hears of it, and then has nothing more to do.
            deadline = time.monotonic() + PATIENCE_S
            while any(t.name.startswith("lease-") for t in threading.enumerate()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        return explain(self, items)

    monkeypatch.setattr(Executor, "explain_staged", stopped_in_the_first)
    answer = workspace.call("run", spec, "--json")
    assert (answer.code, answer.document["state"]) == (130, state), answer.err
    assert len(batches) == 1
    (shard,) = workspace.rows("shards")
    # Given back: the attempt does not count.
    assert (shard["state"], shard["attempt"], shard["max_attempts"]) == (
        "pending",
        1,
        4,
    )
    resumed = workspace.call("resume", answer.document["run"], "--json")
    assert resumed.document["items"] == {"total": 4, "done": 4, "failed": 0}

# SPDX-License-Identifier: Apache-2.0
"""Processes are killed, frozen, starved and doubled; the result stays the same."""

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from ledger.entries import Action
from storage.ledger_writer import read_entries
from storage.runs import resume_run, stop_run
from storage.states import RunState, ShardState
from tests.support.fault_audit import SHARDS, undisturbed
from tests.support.fault_deployment import LEASE_S
from tests.support.fault_rig import FaultRig
from tests.support.processes import signal_tree

pytestmark = pytest.mark.timeout(3600)

WORKERS = ("cpu-1", "cpu-2")
#: More would only starve the run: a new worker needs seconds before it can work.
MOST_KILLS = max(4, SHARDS // 15)


def _kill_child(rig: FaultRig, name: str) -> None:
    child = rig.child(name)
    if child is not None:
        child.kill()


def _kill_main(rig: FaultRig, name: str) -> None:
    os.kill(rig.workers[name].pid, signal.SIGKILL)


@pytest.mark.parametrize("kill", [_kill_child, _kill_main])
def test_killed_workers_lose_and_double_nothing(
    rig: FaultRig, kill: Callable[[FaultRig, str], None]
) -> None:
    """SIGKILL of pool children or of main processes, every few seconds at random."""
    run, chance = rig.submit(), random.SystemRandom()
    rig.wait_for_done(run, 3)
    caught = kills = 0
    # At random, but until two were hit with a shard in their hands.
    while rig.state(run) != RunState.DONE and kills < MOST_KILLS:
        victim = chance.choice(WORKERS)
        if caught < 2:
            victim = rig.catch_at_work(run, *WORKERS)
        kill(rig, victim)
        kills += 1
        time.sleep(0.1)
        caught += rig.holder(run, victim) is not None
        time.sleep(chance.uniform(3, 6))
    assert caught
    rig.wait_for_end(run)
    rig.require_exact(run)
    assert rig.attempts(run) >= 2


def test_the_finish_of_a_frozen_worker_is_refused(rig: FaultRig) -> None:
    """A worker frozen past its lease wakes up, and its shard is another's by then."""
    run = rig.submit()
    frozen = rig.catch_at_work(run, *WORKERS)
    signal_tree(rig.workers[frozen].pid, signal.SIGSTOP)
    held = [s for s in rig.shards(run) if s.state == ShardState.RUNNING]
    mine = [s.id for s in held if frozen in str(s.worker)]
    try:
        assert mine, "the worker had finished before it was frozen"
        rig.wait_until(
            lambda: any(
                s.id in mine and s.attempt >= 2 and s.state == ShardState.DONE
                for s in rig.shards(run)
            ),
            "nobody takes the frozen worker's shard over",
        )
    finally:
        signal_tree(rig.workers[frozen].pid, signal.SIGCONT)
    rig.wait_until(lambda: rig.says(frozen, "fenced_out"), "the finish was not refused")
    rig.require_exact(run)


def test_messages_swallowed_by_frozen_consumers_are_sent_again(rig: FaultRig) -> None:
    """Consumers that are frozen when the hints come, and then die, take none along."""
    for name in WORKERS:
        signal_tree(rig.workers[name].pid, signal.SIGSTOP)
    run = rig.submit()
    time.sleep(1)
    assert rig.done(run) == 0
    for name in WORKERS:
        signal_tree(rig.workers[name].pid, signal.SIGKILL)
    rig.require_exact(run)


def test_two_beats_and_two_control_workers_end_a_run_once(rig: FaultRig) -> None:
    """Two beats and two finalisers write one report and one last entry."""
    rig.start("control-2", "control")
    second = rig.deployment.start("beat-2", "beat")
    try:
        rig.deployment.wait_for_workers("control-1", "control-2")
        run = rig.submit()
        rig.require_exact(run)
        actions = _actions(rig, f"run/{run}")
        assert actions.count(Action.REPORT_WRITTEN) == 1
        assert actions.count(Action.RUN_FINALISED) == 1
    finally:
        second.kill()
        rig.forget("control-2").kill()


def test_a_killed_control_worker_is_replaced(rig: FaultRig) -> None:
    """The control worker is killed while it finalises; the next one ends the run."""
    run = rig.submit()
    rig.wait_until(
        lambda: (
            rig.state(run) == RunState.FINALISING or rig.state(run) == RunState.DONE
        ),
        "the run is never finalised",
    )
    _kill_main(rig, "control-1")
    rig.require_exact(run)
    assert _actions(rig, f"run/{run}").count(Action.REPORT_WRITTEN) == 1


def test_a_worker_without_memory_costs_attempts_and_no_item(rig: FaultRig) -> None:
    """Allocations fail in the workers for a while; every shard is done in the end."""
    run = rig.submit()
    rig.wait_for_done(run, 5)
    limited: list[int] = []
    for name in WORKERS:
        child = rig.child(name)
        if child is not None:
            # What it has it keeps; hardly anything more is given.
            limit = child.memory_info().vms + (1 << 20)
            resource.prlimit(child.pid, resource.RLIMIT_AS, (limit, -1))
            limited.append(child.pid)
    assert limited
    time.sleep(3)
    for pid in limited:
        if psutil.pid_exists(pid):
            resource.prlimit(pid, resource.RLIMIT_AS, (-1, -1))
    rig.require_exact(run)


def test_cancelled_in_mid_shard_and_resumed(rig: FaultRig) -> None:
    """A cancel is obeyed within a heartbeat and a batch; `resume` gives the rest."""
    spec = _long_shards(rig.spec.parent)
    expected = undisturbed(rig.spec.parent, spec).digest
    run = rig.submit(spec)
    rig.catch_at_work(run, *WORKERS)
    time.sleep(LEASE_S / 3)
    stop_run(
        rig.engine,
        run,
        RunState.CANCELLED,
        action=Action.RUN_CANCELLED,
        actor="test/canceller",
    )
    started = time.monotonic()
    rig.wait_until(lambda: not rig.holder(run, *WORKERS), "shards stay in work")
    # A heartbeat is a third of the lease; the rest is for a slow machine.
    assert time.monotonic() - started < LEASE_S + 10
    left = [s for s in rig.shards(run) if s.state == ShardState.PENDING]
    assert left, "everything was done before the cancel came"
    assert rig.state(run) == RunState.CANCELLED
    resume_run(rig.engine, run, actor="test/canceller")
    rig.require_exact(run, digest=expected)


def _long_shards(folder: Path) -> Path:
    """Return the spec of an audit in two shards of some seconds."""
    names = sorted(path.name for path in (folder / "pictures").iterdir())[:40]
    rows = "".join(f"pictures/{name}\n" for name in names)
    (folder / "long.csv").write_text(f"path\n{rows}")
    spec = yaml.safe_load((folder / "audit.yaml").read_text())
    spec["data"] = {"source": "long.csv"}
    spec["metrics"] = ["deletion", "insertion"]
    spec["run"]["shard_size"] = 20
    path = folder / "long.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def _actions(rig: FaultRig, name: str) -> list[str]:
    """Return what the ledger tells of an object, in order."""
    bodies = [json.loads(body) for _index, body, _leaf in read_entries(rig.engine)]
    return [body["action"] for body in bodies if body["object"] == name]

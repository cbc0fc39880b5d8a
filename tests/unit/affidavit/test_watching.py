# SPDX-License-Identifier: Apache-2.0
"""What `status --watch` draws of a run, and how it tells its speed."""

import io

import pytest
from rich.console import Console

from affidavit.cli.watching import picture_of
from affidavit.run_look import AVERAGE_S, RunLook, Speed
from storage.run_looks import ShardProblem
from storage.runs import Progress
from storage.tables import RunTable, WorkerTable
from storage.worker_registry import WorkInHand


def drawn(look: RunLook, speed: Speed) -> str:
    """Return the picture as text."""
    stream = io.StringIO()
    Console(file=stream, width=100, color_system=None).print(picture_of(look, speed))
    return stream.getvalue()


def look(**more: object) -> RunLook:
    """Return a look at a run of a thousand items, half of them through."""
    run = RunTable(
        id="abcdef123456",
        state="running",
        queue="cpu",
        items_total=1000,
        spec={"audit": "lungs \x1b[31m"},
        plan={"batch_size": 16},
    )
    parts: dict[str, object] = {
        "run": run,
        "progress": Progress(
            shards={"pending": 3, "running": 1, "done": 4},
            items_total=1000,
            items_done=500,
            oldest_pending_s=None,
            not_before_s=None,
        ),
        "workers": [],
        "problems": [],
        "warnings": [],
    }
    return RunLook(**(parts | more))  # type: ignore[arg-type]


def test_state_progress_speed_and_shards_are_drawn() -> None:
    """The picture says how far the run is, how fast, and how long it takes still."""
    speed = Speed()
    speed.see(0.0, 400)
    speed.see(10.0, 500)
    text = drawn(look(), speed)
    assert "abcdef123456 lungs" in text
    assert "is running" in text
    assert "500 of 1,000 items (50.0%), 10.0/s, 50 s left" in text
    assert "shards: 4 done, 3 pending, 1 running (queue cpu)" in text
    # The name of an audit is anybody's text and must not steer the terminal.
    assert "\x1b" not in text


def test_workers_problems_and_warnings_are_drawn() -> None:
    """Each worker has its shard, batches and speed; each problem its attempts."""
    worker = WorkInHand(
        worker=WorkerTable(name="cpu-1", device="cpu"),
        seen_s=1.0,
        up_s=100.0,
        run_id="abcdef123456",
        shard_index=7,
        busy_s=10.0,
        items=40,
        items_through=32,
    )
    problem = ShardProblem(
        shard_index=2,
        state="dead",
        error="StoreUnavailableError",
        attempt=3,
        max_attempts=3,
        deaths=1,
    )
    text = drawn(
        look(workers=[worker], problems=[problem], warnings=["no worker is alive."]),
        Speed(),
    )
    lines = [line.split() for line in text.splitlines()]
    assert ["cpu-1", "cpu", "7", "2/3", "3.2", "10", "s"] in lines
    assert ["StoreUnavailableError", "2", "dead", "3/3", "1"] in lines
    assert "warning: no worker is alive." in text


def test_the_speed_follows_what_is_new_and_forgets_what_is_old() -> None:
    """Seen for long enough, the speed is the present one; steps back are no speed."""
    speed = Speed()
    assert speed.per_second == 0.0
    assert speed.seconds_for(10) is None
    done = 0
    for second in range(100):
        speed.see(float(second), done)
        done += 2
    assert speed.per_second == pytest.approx(2.0)
    for second in range(100, 100 + int(5 * AVERAGE_S)):
        speed.see(float(second), done)
        done += 8
    assert speed.per_second == pytest.approx(8.0, rel=0.05)
    assert speed.seconds_for(80) == pytest.approx(10.0, rel=0.05)
    before = speed.per_second
    speed.see(1000.0, 0)
    assert 0.0 < speed.per_second < before

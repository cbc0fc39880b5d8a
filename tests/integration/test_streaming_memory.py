# SPDX-License-Identifier: Apache-2.0
"""Memory that does not grow with the manifest, watched from outside the process."""

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from tests.support.photographs import write_spec

pytestmark = pytest.mark.timeout(300)

ROWS = 100_000
#: A tenth of this is used; rows kept in a list would take twice as much.
LIMIT_BYTES = 60_000_000

#: Plans the spec in its folder; waits before, at the start-up size, and after.
PROGRAM = """
import sys
from pathlib import Path

from pipeline.planning import prepare
from pipeline.run_creation import create_run
from pipeline.services import Services
from pipeline.settings import Settings
from storage.runs import get_run
from storage.schema import ensure_embedded_schema

settings = Settings(home=Path("home"), device="cpu")
services = Services(settings=settings, actor="user/tester")
ensure_embedded_schema(settings.resolved_database_url, actor=services.actor)
audit = prepare(services, Path("audit.yaml"))
print("ready", flush=True)
sys.stdin.readline()
run_id = create_run(services, audit, queue="embedded")
print(get_run(services.engine, run_id).items_total, flush=True)
# What is touched while the interpreter takes itself down is not planning's.
sys.stdin.readline()
"""


def _write_manifest(file: Path) -> None:
    """Each row names a file of its own, which planning need not find."""
    with file.open("w") as lines:
        lines.write("path,label\n")
        lines.writelines(f"photos/{row:08d}.jpg,{row % 1000}\n" for row in range(ROWS))


def _plan_watched(folder: Path) -> tuple[int, int]:
    """Return how many items were planned, and the bytes above the start-up size."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        process = psutil.Process(child.pid)
        sizes = [process.memory_info().rss]
        planned = Event()
        watcher = Thread(target=_watch, args=(process, planned, sizes))
        watcher.start()
        child.stdin.write("go on\n")
        child.stdin.flush()
        items = child.stdout.readline()
        planned.set()
        watcher.join()
        child.stdin.write("end\n")
    assert child.returncode == 0
    return int(items), max(sizes) - sizes[0]


def _watch(process: psutil.Process, stop: Event, sizes: list[int]) -> None:
    """Append the size of the process every few milliseconds."""
    while not stop.wait(0.005):
        sizes.append(process.memory_info().rss)


def test_planning_a_hundred_thousand_rows_takes_little_memory(tmp_path: Path) -> None:
    """A long manifest becomes a run within 60 MB above the process's start-up size."""
    _write_manifest(tmp_path / "items.csv")
    write_spec(
        tmp_path / "audit.yaml",
        # Small pictures make the probe of the network short.
        model={
            "source": "efficientnet-lite0",
            "preprocess": {"resize": 64, "crop": 64},
        },
        data={"source": "items.csv", "columns": {"uri": "path", "label": "label"}},
    )
    planned, above = _plan_watched(tmp_path)
    assert planned == ROWS
    assert above < LIMIT_BYTES

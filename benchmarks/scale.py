# SPDX-License-Identifier: Apache-2.0
"""Whether memory stays the same however many items a run has, and what plumbing costs.

Two measurements, each in a fresh process that this one watches with psutil every 10 ms:

- planning: a CSV manifest of 1,000,000 rows, each naming a file of its own, becomes a
  run in SQLite. Promised: at most 300 MB above the size at start-up, which is the size
  once the libraries are imported, the network is loaded and the spec is checked.
- running: 100,000 items (`--items` for more) go through a network so small that nearly
  all the time is ours: reading, decoding, packing, rows, leases, ledger, report.
  Promised: at most 300 MB above the size at start-up, no growth after the first tenth
  beyond what the report's columns cost (8 bytes a value and item), and a peak, report
  included, of at most 1.1 times that of the first tenth.

The files are hard links to 64 pictures of 16 x 16, so each is read and decoded for
real. The network is registered by an entry point, as a user's own would be.

Usage: python benchmarks/scale.py [--quick] [--json FILE] [--plan-items N] [--items N]
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

#: Promised most megabytes above the start-up size.
PROMISE_MB = 300
#: Allowed growth between the first tenth of the items and the last: noise of the
#: allocator, and 8 bytes for each value of the report.
GROWTH_MB = 40
#: Allowed size of the largest peak over that of the first tenth of the items.
GROWTH_RATIO = 1.1
SIDE = 16
BATCH = 64
#: Pictures that the hard links point at; a file system bounds the links of one.
PICTURES = 64
FOLDER_FILES = 1000
SAMPLE_S = 0.01
MB = 1e6


class TinyNetwork(nn.Module):
    """Two convolutions and a linear layer on 16 x 16 pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(16, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ten logits an item."""
        scores: Tensor = self.head(self.features(inputs).mean(dim=(2, 3)))
        return scores


@dataclass(slots=True)
class Watched:
    """What a child process did: moments and sizes by the marks that it printed."""

    at: dict[str, float] = field(default_factory=dict)
    size: dict[str, int] = field(default_factory=dict)
    #: Largest size since the mark before.
    peak: dict[str, int] = field(default_factory=dict)
    said: dict[str, float] = field(default_factory=dict)

    def seconds(self, first: str, last: str) -> float:
        """Return the seconds between two marks."""
        return self.at[last] - self.at[first]

    def above(self, *marks: str) -> float:
        """Return the megabytes by which the peak before the marks exceeds start-up."""
        return (max(self.peak[mark] for mark in marks) - self.size["ready"]) / MB


@dataclass(frozen=True, slots=True)
class Target:
    """A promise and whether it is kept."""

    promise: str
    measured: float
    kept: bool


def main() -> int:
    """Print the figures and the verdicts; return 0 however they come out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="20,000 and 5,000 items")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here")
    parser.add_argument("--plan-items", type=int, help="rows of the planned manifest")
    parser.add_argument("--items", type=int, help="items of the run")
    parser.add_argument("--child", choices=["plan", "run"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "plan":
        return _plan()
    if options.child == "run":
        return _run()
    planned = options.plan_items or (20_000 if options.quick else 1_000_000)
    items = options.items or (5_000 if options.quick else 100_000)
    targets: list[Target] = []
    figures: dict[str, dict[str, float]] = {}
    with laid_out(planned) as place:
        figures["planning"] = measure_planning(place, planned, targets)
    with laid_out(items) as place:
        figures["running"] = _measure_running(place, items, targets)
    print("\ntargets")
    for target in targets:
        verdict = "kept  " if target.kept else "MISSED"
        print(f"  {verdict} {target.promise}: {target.measured:.2f}")
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")
    if options.json:
        document = {
            "load": os.getloadavg(),
            **figures,
            "targets": [asdict(target) for target in targets],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def measure_planning(
    place: Path, items: int, targets: list[Target]
) -> dict[str, float]:
    """Return what planning so many items took, its promise added to the targets."""
    seen = _watch(place, "plan")
    seconds = seen.seconds("ready", "planned")
    database = sum(file.stat().st_size for file in (place / "home").glob("*.db*"))
    figures = {
        "items": items,
        "seconds": seconds,
        "items_per_s": items / seconds,
        "start_mb": seen.size["ready"] / MB,
        "above_start_first_tenth_mb": seen.above("tenth"),
        "above_start_all_items_mb": seen.above("tenth", "worked"),
        "above_start_finished_mb": seen.above("planned"),
        "database_mb": database / MB,
    }
    print(f"\nplanning {items:,} items into SQLite")
    _print(figures)
    above = seen.above("tenth", "worked", "planned")
    targets.append(
        Target(f"planning, MB above start <= {PROMISE_MB}", above, above <= PROMISE_MB)
    )
    return figures


def _measure_running(
    place: Path, items: int, targets: list[Target]
) -> dict[str, float]:
    _watch(place, "plan")
    seen = _watch(place, "run")
    seconds = seen.seconds("ready", "done")
    figures = {
        "items": items,
        "seconds": seconds,
        "items_per_s": items / seconds,
        "cpu_ms_per_item": 1e3 * seen.said["cpu_s"] / items,
        "network_share": seen.said["network_s"] / seconds,
        "plumbing_share": 1 - seen.said["network_s"] / seconds,
        "closing_s": seen.seconds("worked", "done"),
        "start_mb": seen.size["ready"] / MB,
        "above_start_first_tenth_mb": seen.above("tenth"),
        "above_start_all_items_mb": seen.above("worked"),
        "above_start_report_mb": seen.above("done"),
    }
    print(f"\nrunning {items:,} items through a tiny network, embedded, SQLite")
    _print(figures)
    most = seen.above("tenth", "worked", "done")
    growth = (seen.peak["worked"] - seen.peak["tenth"]) / MB
    first = max(seen.peak[mark] for mark in ("ready", "tenth"))
    ratio = max(first, seen.peak["worked"], seen.peak["done"]) / first
    targets += [
        Target(f"running, MB above start <= {PROMISE_MB}", most, most <= PROMISE_MB),
        Target(
            f"running, MB grown after the first tenth <= {GROWTH_MB}",
            growth,
            growth <= GROWTH_MB,
        ),
        Target(
            f"running, peak over that of the first tenth <= {GROWTH_RATIO}",
            ratio,
            ratio <= GROWTH_RATIO,
        ),
    ]
    return figures


def _print(figures: dict[str, float]) -> None:
    for name, value in figures.items():
        shown = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        print(f"  {name:28s} {shown:>12s}")


@contextmanager
def laid_out(items: int) -> Iterator[Path]:
    """A folder with the pictures, the manifest, the spec and the registered network."""
    with tempfile.TemporaryDirectory(prefix="affidavit-scale-") as folder:
        place = Path(folder)
        _write_manifest(place, items)
        _write_network(place)
        document = {
            "audit": "scale",
            "model": {
                "source": "tiny-benchmark",
                "weights": "tiny.pth",
                "preprocess": {"resize": SIDE, "crop": SIDE},
            },
            "data": {"source": "items.csv", "columns": {"uri": "path"}},
            "metrics": ["completeness"],
            "run": {"batch_size": BATCH, "device": "cpu"},
        }
        (place / "audit.yaml").write_text(yaml.safe_dump(document))
        yield place


def _write_manifest(place: Path, items: int) -> None:
    """Each row names a file of its own: a hard link to one of the pictures."""
    generator = np.random.default_rng(7)
    sources = place / "sources"
    sources.mkdir()
    for number in range(PICTURES):
        pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(sources / f"{number}.png")
    with (place / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path"])
        for index in range(items):
            name = f"items/{index // FOLDER_FILES:05d}/{index:08d}.png"
            if index % FOLDER_FILES == 0:
                (place / name).parent.mkdir(parents=True)
            os.link(sources / f"{index % PICTURES}.png", place / name)
            writer.writerow([name])


def _write_network(place: Path) -> None:
    """The network is found as if a package with an entry point were installed."""
    torch.manual_seed(0)
    torch.save(TinyNetwork().state_dict(), place / "tiny.pth")
    package = place / "site" / "tiny_benchmark-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-benchmark\nVersion: 1\n"
    )
    (package / "entry_points.txt").write_text(
        "[affidavit.models]\ntiny-benchmark = scale:TinyNetwork\n"
    )


def _watch(place: Path, task: str) -> Watched:
    """Return what a child process that does the task printed and how large it was."""
    paths = (place / "site", ROOT, Path(__file__).parent)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(path) for path in paths),
        "AFFIDAVIT_PLUGINS": "1",
        "AFFIDAVIT_HOME": str(place / "home"),
    }
    seen = Watched()
    with subprocess.Popen(
        [sys.executable, __file__, "--child", task],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        watcher = threading.Thread(target=_sample, args=(child, seen))
        watcher.start()
        watcher.join()
    if child.returncode:
        raise RuntimeError(f"The child process ended with {child.returncode}.")
    return seen


def _sample(child: subprocess.Popen[str], seen: Watched) -> None:
    """Read the child's size until it ends; each line it prints closes a phase."""
    process = psutil.Process(child.pid)
    lines = child.stdout
    if lines is None:
        return
    os.set_blocking(lines.fileno(), False)
    peak = 0
    while child.poll() is None:
        try:
            size = process.memory_info().rss
        except psutil.Error:
            break
        peak = max(peak, size)
        for line in lines.readlines():
            name, _, value = line.strip().partition("=")
            if value:
                seen.said[name] = float(value)
                continue
            seen.at[name] = time.perf_counter()
            seen.size[name], seen.peak[name] = size, peak
            peak = size
        time.sleep(SAMPLE_S)


def _mark(name: str) -> None:
    """Tell the watcher that a phase is over, and let it look."""
    print(name, flush=True)
    time.sleep(5 * SAMPLE_S)


def _plan() -> int:
    """Plan the run in the working directory, as `affidavit run` does."""
    from pipeline.planning import prepare
    from pipeline.run_creation import create_run
    from pipeline.services import Services
    from pipeline.settings import load_settings
    from storage.schema import ensure_embedded_schema

    services = Services(settings=load_settings(), actor="benchmark")
    ensure_embedded_schema(
        services.settings.resolved_database_url, actor=services.actor
    )
    audit = prepare(services, Path("audit.yaml"))
    with Path("items.csv").open() as rows:
        total = sum(1 for _ in rows) - 1
    tenth = _Tenth(total)
    _mark("ready")
    create_run(services, audit, queue="embedded", on_items=tenth.add)
    _mark("planned")
    services.close()
    return 0


def _run() -> int:
    """Work through the planned run in the working directory."""
    # A library of 60 MB that the report loads at the very end: it is no growth.
    import scipy.stats  # noqa: F401

    from pipeline.embedded import run_embedded
    from pipeline.planning import prepare
    from pipeline.services import Services
    from pipeline.settings import load_settings
    from storage.runs import get_run
    from storage.states import RunState

    services = Services(settings=load_settings(), actor="benchmark")
    audit = prepare(services, Path("audit.yaml"))
    run = get_run(services.engine, "latest")
    tenth = _Tenth(run.items_total)
    _mark("ready")
    before = time.process_time()
    state = run_embedded(services, run.id, audit.executor, on_items=tenth.add)
    print(f"cpu_s={time.process_time() - before}")
    _mark("done")
    found = get_run(services.engine, run.id)
    if state is not RunState.DONE or not found.summary:
        raise RuntimeError(f"The run ended as {state}: {found.error}.")
    if found.summary["items"]["done"] != run.items_total:
        raise RuntimeError(f"Items failed: {found.summary['reasons']}.")
    batches = -(-run.items_total // BATCH)
    print(f"network_s={batches * _batch_seconds(audit.plan.threads)}", flush=True)
    services.close()
    return 0


class _Tenth:
    """Marks the first tenth of the items, and the last item."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen = 0

    def add(self, count: int) -> None:
        """So many more items are through."""
        before, self._seen = self._seen, self._seen + count
        if before < self._total / 10 <= self._seen:
            _mark("tenth")
        if self._seen == self._total:
            _mark("worked")


def _batch_seconds(threads: int) -> float:
    """Return the seconds of Grad-CAM alone on one batch of the tiny network."""
    from explain.architectures import resolve_layer
    from explain.frozen import frozen
    from explain.methods import create_method

    torch.set_num_threads(threads)
    model = TinyNetwork()
    inputs = torch.zeros(BATCH, 3, SIDE, SIDE)
    method = create_method("gradcam", model, resolve_layer(model, example=inputs[:1]))
    times = []
    with frozen(model):
        for _ in range(50):
            started = time.perf_counter()
            method.explain(inputs, None)
            times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())

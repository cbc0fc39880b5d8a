# SPDX-License-Identifier: Apache-2.0
"""What a whole audit costs beside a plain inference loop over the same files.

The plain loop is what a user would write to get predictions alone: a torch DataLoader
with one worker process (kept between rounds, so that its start is not timed), Pillow,
torchvision's Resize, CenterCrop, ToTensor and Normalize, the network in eval mode under
inference mode, softmax and argmax, results kept in a list.

Ours is `run_embedded` with metrics off, as `affidavit run` calls it: reading with size,
time and SHA-256 of each file checked, decoding, Grad-CAM, upsampling, threshold,
float16 packing, Parquet, SQLite rows, leases, ledger, report and signed checkpoint.

Both use the same files, batch size, torch threads and weights. Left out of both sides
are loading the network and, of ours, planning (checking the spec, probing the layer,
writing the manifest); those times are printed beside. Rounds alternate in one process
and ratios are taken within a round before their median is, so that a busy machine
disturbs both alike; processor time (all threads and the worker process) is printed
beside, since other load hardly touches it. Random weights get batch-norm statistics
from the pictures, or MobileNetV3's activations would fade to 1e-10. The predictions of
both sides are compared.

Usage: python benchmarks/end_to_end.py [--quick] [--json FILE] [--items N]
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import skimage.data
import torch
import torchvision
import yaml
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.embedded import run_embedded
from pipeline.models.loading import load_model
from pipeline.planning import PreparedAudit, prepare
from pipeline.run_creation import create_run
from pipeline.services import Services
from pipeline.settings import Settings
from pipeline.spec import PreprocessSpec
from storage.items import iterate_items
from storage.runs import get_run, list_shards
from storage.schema import ensure_embedded_schema
from storage.states import RunState

NETWORKS = ("torchvision:resnet50", "torchvision:mobilenet_v3_large")
PRETRAINED = "efficientnet-lite0"
BATCH = 16
THREADS = len(os.sched_getaffinity(0))
#: Width and height of the pictures, as in ImageNet.
SIZE = (500, 375)
#: Ours must reach this share of the plain loop's items a second.
PROMISE = 0.85
#: What each network was trained on; Lite0 scales by 127 and 128.
SCALING = {
    PRETRAINED: {"mean": [127 / 255] * 3, "std": [128 / 255] * 3},
}
#: Photographs of the wheel that are at least as large as a crop.
PICTURES = ("astronaut", "coffee", "rocket", "retina", "hubble_deep_field")


@dataclass(frozen=True, slots=True)
class Side:
    """One round of one side."""

    seconds: float
    cpu_s: float
    #: Seconds of it between the last shard's commit and the end of the run.
    closing_s: float
    predicted: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network: medians over the rounds, and whether the promise is kept."""

    network: str
    items: int
    rounds: int
    plain_items_per_s: float
    ours_items_per_s: float
    plain_cpu_ms: float
    ours_cpu_ms: float
    ratio: float
    ratio_lowest: float
    ratio_highest: float
    closing_s: float
    load_s: float
    plan_s: float
    equal_predictions: int
    kept: bool


class Photographs(Dataset[Tensor]):
    """The files as tensors, as torchvision's documentation prepares them."""

    def __init__(self, files: Sequence[Path], spec: PreprocessSpec) -> None:
        self._files = files
        self._transform = transforms.Compose(
            [
                transforms.Resize(spec.resize),
                transforms.CenterCrop(spec.crop),
                transforms.ToTensor(),
                transforms.Normalize(spec.mean, spec.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self._files[index]) as picture:
            tensor: Tensor = self._transform(picture.convert("RGB"))
        return tensor


def main() -> int:
    """Print the table and the verdicts; return 0 however they come out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few items, few rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here")
    parser.add_argument("--items", type=int, help="pictures a round")
    parser.add_argument("--rounds", type=int, help="rounds a network")
    parser.add_argument("--network", action="append", help="only this; repeatable")
    options = parser.parse_args()
    items = options.items or (48 if options.quick else 160)
    rounds = options.rounds or (2 if options.quick else 3)
    torch.set_num_threads(THREADS)
    print(
        f"torch {torch.__version__}, {platform.machine()}, {THREADS} threads, batch"
        f" {BATCH}, {items} JPEGs of {SIZE[0]} x {SIZE[1]}, {rounds} alternating rounds"
    )
    with tempfile.TemporaryDirectory(prefix="affidavit-bench-") as folder:
        place = Path(folder)
        files = write_photographs(place / "photos", items)
        rows = []
        _print_head()
        for network in options.network or (*NETWORKS, PRETRAINED):
            rows.append(measure(place, files, network, rounds))
            _print_row(rows[-1])
    _print_verdicts(rows)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")
    if options.json:
        document = {"load": os.getloadavg(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Return the paths of that many distinct crops, written as JPEG."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(7)
    pictures = [getattr(skimage.data, name)() for name in PICTURES]
    width, height = SIZE
    paths = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        top = int(generator.integers(0, picture.shape[0] - height + 1))
        left = int(generator.integers(0, picture.shape[1] - width + 1))
        crop = picture[top : top + height, left : left + width]
        path = folder / f"{number:05d}.jpg"
        Image.fromarray(crop).save(path, quality=90)
        paths.append(path)
    return paths


def measure(
    place: Path,
    files: Sequence[Path],
    network: str,
    rounds: int,
    on_round: Callable[[float], None] = lambda _ratio: None,
) -> Row:
    """Return the figures of one network, both sides warmed up once.

    `on_round` hears the ratio of each round when it is over.
    """
    name = network.rpartition(":")[2]
    spec = write_spec(place, network, files)
    services = Services(
        settings=Settings(home=place / f"home-{name}", device="cpu"), actor="benchmark"
    )
    try:
        ensure_embedded_schema(
            services.settings.resolved_database_url, actor=services.actor
        )
        started = time.perf_counter()
        audit = prepare(services, spec, device="cpu")
        prepare_s = time.perf_counter() - started
        started = time.perf_counter()
        model = _same_network(audit)
        load_s = time.perf_counter() - started
        # The worker process is forked here, before our side has threads.
        plain = _plain_loop(files, audit.resolved.model.preprocess, model)
        plain()
        _, list_s = _ours(services, audit)
        pairs = []
        for turn in range(rounds):
            sides: list[Callable[[], Side]] = [plain, lambda: _ours(services, audit)[0]]
            order = (0, 1) if turn % 2 == 0 else (1, 0)
            found = {which: sides[which]() for which in order}
            pairs.append((found[0], found[1]))
            on_round(found[0].seconds / found[1].seconds)
    finally:
        services.close()
    # Preparing loads the network too; what is left of it is planning.
    return _row(name, len(files), pairs, load_s, max(0.0, prepare_s - load_s) + list_s)


def write_spec(place: Path, network: str, files: Sequence[Path], **run: object) -> Path:
    """Return the path of the spec, beside weights where the network needs some."""
    name = network.rpartition(":")[2]
    model: dict[str, Any] = {
        "source": network,
        "preprocess": {
            "resize": 256,
            "crop": 224,
            "interpolation": "bilinear",
            **SCALING.get(
                name, {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
            ),
        },
    }
    if network != PRETRAINED:
        prepared = PreprocessSpec.model_validate(model["preprocess"])
        module = _random_network(name, Photographs(files[:BATCH], prepared))
        torch.save(module.state_dict(), place / f"{name}.pth")
        model["weights"] = f"{name}.pth"
    document = {
        "audit": f"bench-{name}".replace("_", "-"),
        "model": model,
        "data": {"source": "photos/"},
        "metrics": [],
        "run": {"batch_size": BATCH, "threads": THREADS, "device": "cpu", **run},
    }
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _random_network(name: str, pictures: Photographs) -> nn.Module:
    """Return the untrained network, its batch norms fitted to the pictures."""
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        module.train()(torch.stack([pictures[i] for i in range(len(pictures))]))
    return module


def _same_network(audit: PreparedAudit) -> nn.Module:
    """Return a second copy of the network, for the plain loop alone."""
    spec = audit.resolved.model
    weights = None if spec.weights is None else Path(spec.weights)
    return load_model(spec, weights=weights).module


def _plain_loop(
    files: Sequence[Path], spec: PreprocessSpec, model: nn.Module
) -> Callable[[], Side]:
    """Return the loop; its worker process lives as long as the function does."""
    loader = DataLoader(
        Photographs(files, spec),
        batch_size=BATCH,
        num_workers=1,
        persistent_workers=True,
    )
    model.eval()

    def run() -> Side:
        started, cpu_s = time.perf_counter(), _cpu_s()
        results: list[tuple[int, float]] = []
        with torch.inference_mode():
            for batch in loader:
                scores, classes = model(batch).softmax(dim=1).max(dim=1)
                results += zip(classes.tolist(), scores.tolist(), strict=True)
        seconds = time.perf_counter() - started
        predicted = [predicted for predicted, _score in results]
        return Side(seconds, _cpu_s() - cpu_s, 0.0, predicted)

    return run


def _ours(services: Services, audit: PreparedAudit) -> tuple[Side, float]:
    """Return one embedded run, and the seconds that writing its manifest took."""
    started = time.perf_counter()
    run_id = create_run(services, audit, queue="embedded")
    list_s = time.perf_counter() - started
    started, cpu_s = time.perf_counter(), _cpu_s()
    state = run_embedded(services, run_id, audit.executor)
    ended, seconds = time.time(), time.perf_counter() - started
    cpu_s = _cpu_s() - cpu_s
    run = get_run(services.engine, run_id)
    if state is not RunState.DONE or run.summary is None:
        raise RuntimeError(f"The run ended as {state}: {run.error}.")
    if run.summary["items"]["failed"]:
        raise RuntimeError(f"Items failed: {run.summary['reasons']}.")
    last = max(s.finished_at or 0.0 for s in list_shards(services.engine, run_id))
    rows = iterate_items(services.engine, run_id)
    predicted = [-1 if row.predicted is None else row.predicted for row in rows]
    return Side(seconds, cpu_s, ended - last, predicted), list_s


def _cpu_s() -> float:
    """Return the processor seconds so far of this process and those it started."""
    this = psutil.Process()
    times = [part.cpu_times() for part in (this, *this.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def _row(
    name: str,
    items: int,
    pairs: Sequence[tuple[Side, Side]],
    load_s: float,
    plan_s: float,
) -> Row:
    ratios = [plain.seconds / ours.seconds for plain, ours in pairs]
    ratio = statistics.median(ratios)
    equal = min(
        sum(a == b for a, b in zip(plain.predicted, ours.predicted, strict=True))
        for plain, ours in pairs
    )
    return Row(
        network=name,
        items=items,
        rounds=len(pairs),
        plain_items_per_s=items / statistics.median(p.seconds for p, _ in pairs),
        ours_items_per_s=items / statistics.median(o.seconds for _, o in pairs),
        plain_cpu_ms=1e3 * statistics.median(p.cpu_s for p, _ in pairs) / items,
        ours_cpu_ms=1e3 * statistics.median(o.cpu_s for _, o in pairs) / items,
        ratio=ratio,
        ratio_lowest=min(ratios),
        ratio_highest=max(ratios),
        closing_s=statistics.median(ours.closing_s for _, ours in pairs),
        load_s=load_s,
        plan_s=plan_s,
        equal_predictions=equal,
        kept=ratio >= PROMISE,
    )


def _print_head() -> None:
    print(
        f"\n  {'network':20s} {'plain/s':>8s} {'ours/s':>8s} {'ratio':>6s}"
        f" {'(range)':>13s} {'plain cpu':>10s} {'ours cpu':>9s}"
        f" {'report s':>9s} {'load s':>7s} {'plan s':>7s}"
        f" {'same class':>11s}",
        flush=True,
    )


def _print_row(row: Row) -> None:
    span = f"({row.ratio_lowest:.2f}-{row.ratio_highest:.2f})"
    same = f"{row.equal_predictions}/{row.items}"
    print(
        f"  {row.network:20s} {row.plain_items_per_s:8.1f}"
        f" {row.ours_items_per_s:8.1f} {row.ratio:6.2f} {span:>13s}"
        f" {row.plain_cpu_ms:10.1f} {row.ours_cpu_ms:9.1f}"
        f" {row.closing_s:9.2f} {row.load_s:7.2f} {row.plan_s:7.2f} {same:>11s}",
        flush=True,
    )


def _print_verdicts(rows: Sequence[Row]) -> None:
    print(
        "\n  cpu: processor ms an item, of all threads and processes"
        "\n  report s: within ours, from the last shard to the signed checkpoint;"
        "\n  load s and plan s: in neither side (plan: spec, probe, manifest)"
        "\n\ntargets"
    )
    for row in rows:
        verdict = "kept  " if row.kept else "MISSED"
        promise = f"items/s over the plain loop's >= {PROMISE}"
        print(f"  {verdict} {row.network:20s} {promise}: {row.ratio:.2f}")


if __name__ == "__main__":
    raise SystemExit(main())

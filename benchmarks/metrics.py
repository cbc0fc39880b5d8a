# SPDX-License-Identifier: Apache-2.0
"""What quality metrics cost beside their forward passes, and beside other libraries.

Curves: deletion and insertion of 64 images (``--images``) in batches of 16, 20 steps,
against 2 x 20 bare forward passes over the same images in passes of the same shape, and
against torch-cam's metric of the same definition, which is given the maps. Each network
is wrapped in a clock, so that "overhead" is the time spent outside of the network, per
changed image. Rows are timed in rounds that run each once, in an order that rotates;
ratios are taken within a round and their median is shown.

Quantus needs numpy below 2, so it has an interpreter of its own (``--quantus``, with
torch, torchvision and quantus), which runs ``metrics_quantus.py``. It has no insertion:
its pixel flipping is set against our deletion, per changed image.

ROAD: imputation of 16 images of noise and slopes at five shares of missing pixels, the
most relevant of a 7 x 7 map first, against a sparse direct solve in SciPy with the
system built by whole-array operations.

Profiles: the passes that plans state for ``quick`` and ``full``, those counted, and the
time, with Grad-CAM.

Usage: python benchmarks/metrics.py [--rounds N] [--threads N] [--device cuda]
       [--quantus PYTHON] [--parts curves road profiles] [--images N] [--json FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explain.architectures import resolve_layer
from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.maps import dequantise, quantise, upsample
from explain.methods.registry import create_method
from explain.metrics import MetricBatch, create_metric
from explain.metrics.cards import PROFILES, cost_of, profile
from explain.metrics.imputation import imputed
from explain.metrics.random_networks import RandomNetworks
from explain.metrics.representation import Representation
from explain.thresholds import FixedKeep

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchcam.metrics import DeletionInsertionMetric

SIZE = (224, 224)
BATCH, STEPS, CHUNK = 16, 20, 64
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
Row = Callable[[], object]


class Clocked(nn.Module):
    """A network that adds up the seconds spent in it and the images it saw."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seconds = 0.0
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        wait(images.device)
        start = time.perf_counter()
        logits: Tensor = self.model(images)
        wait(images.device)
        self.seconds += time.perf_counter() - start
        self.images += len(images)
        return logits


def wait(device: torch.device) -> None:
    """Return when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pictures(count: int, device: torch.device) -> Tensor:
    """Return smooth random pictures with some noise, (count, 3, 224, 224)."""
    draws = ItemDraws.counted(count)
    coarse = draws.normal(0, (3, 12, 12))
    smooth = nn.functional.interpolate(coarse, SIZE, mode="bicubic")
    return (smooth + draws.normal(1, (3, *SIZE)) * 0.1).to(device)


def main() -> int:
    """Print the tables and the verdicts; return 0 however they come out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds a table")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quantus", metavar="PYTHON", help="interpreter with Quantus")
    parser.add_argument(
        "--parts", nargs="+", default=("curves", "road", "profiles"), metavar="PART"
    )
    parser.add_argument("--images", type=int, default=64, help="images of the curves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_large(weights=None).eval().to(device)
    load = os.getloadavg()[0]
    print(
        f"torch {torch.__version__}, {options.threads} threads, {device}, load"
        f" {load:.1f}; MobileNetV3-large, random weights, 224 x 224"
    )
    found: dict[str, Any] = {}
    with frozen(model), torch.no_grad():
        if "curves" in options.parts:
            found["curves"] = curves(model, device, options)
        if "road" in options.parts:
            found["road"] = road(device, options.rounds)
    if "profiles" in options.parts:
        found["profiles"] = profiles(model, device)
    for part, figures in found.items():
        print(f"\n{part}")
        for name, value in figures.items():
            print(f"  {name:58s} {value:10.3f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def batch_of(model: nn.Module, inputs: Tensor, first: int = 0) -> MetricBatch:
    """Return explained inputs with half of each picture as truth."""
    clocked = Clocked(model)
    layer = resolve_layer(model, example=inputs[:1])
    method = create_method("gradcam", model, layer)
    explained = method.explain(inputs, None)
    stored = quantise(explained.maps)
    maps = upsample(dequantise(stored).to(inputs.device), SIZE)
    truth = torch.zeros(maps.shape, dtype=torch.bool, device=inputs.device)
    truth[:, :, : SIZE[1] // 2] = True
    everyone = torch.ones(len(inputs), dtype=torch.bool)
    return MetricBatch(
        inputs=inputs,
        targets=explained.targets,
        logits=explained.logits,
        stored=stored,
        maps=maps,
        mask=FixedKeep(0.1).apply(maps).mask,
        ground_truth=truth,
        has_truth=everyone,
        valid=everyone,
        forward=clocked,
        explain=method.explain,
        draws=ItemDraws(0, tuple(range(first, first + len(inputs))), stream=0),
        input_range=torch.full((3,), 4.4),
        chunk=CHUNK,
    )


class GivenMaps:
    """Stands for torch-cam's extractor and gives it maps that are there already."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model = model
        self._maps = maps

    def __call__(self, _classes: object, _scores: object) -> list[Tensor]:
        """Return the only map."""
        return [self._maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """Return it again."""
        return cams[0]

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield


def curves(
    model: nn.Module, device: torch.device, options: argparse.Namespace
) -> dict[str, float]:
    """Return what deletion and insertion cost over forwards, here and elsewhere."""
    inputs = pictures(options.images, device)
    batches = [
        batch_of(model, part, place * BATCH)
        for place, part in enumerate(torch.split(inputs, BATCH))
    ]
    copies = torch.cat([inputs] * (CHUNK // len(inputs) or 1))[:CHUNK]
    clocks: dict[str, Clocked] = {
        name: Clocked(model) for name in ("ours", "deletion", "torch-cam")
    }

    def bare() -> None:
        for _ in range(2 * STEPS * len(inputs) // len(copies)):
            model(copies)

    def measured(clock: Clocked, names: Sequence[str]) -> None:
        for batch in batches:
            # A batch that has measured nothing yet, its ranking included.
            fresh = replace(batch, forward=clock)
            for name in names:
                create_metric(name, steps=STEPS).measure(fresh)

    def torch_cam() -> None:
        for batch in batches:
            metric = DeletionInsertionMetric(
                GivenMaps(clocks["torch-cam"], batch.maps),
                lambda logits: logits.softmax(dim=1),
                steps=STEPS,
                batch_size=CHUNK,
            )
            metric.update(batch.inputs, batch.targets.tolist())

    rows: dict[str, Row] = {
        "forward": bare,
        "ours": lambda: measured(clocks["ours"], ("deletion", "insertion")),
        "deletion": lambda: measured(clocks["deletion"], ("deletion",)),
        "torch-cam": torch_cam,
    }
    times, outside = timed(rows, clocks, options.rounds, device)
    ratios = [
        ours / bare for ours, bare in zip(times["ours"], times["forward"], strict=True)
    ]
    peer = [
        ours / theirs
        for ours, theirs in zip(outside["ours"], outside["torch-cam"], strict=True)
    ]
    found = {
        "ours / 2 S forward passes (at most 1.15)": statistics.median(ratios),
        "overhead, ours, ms a changed image": median_ms(outside["ours"]),
        "overhead, torch-cam, ms a changed image": median_ms(outside["torch-cam"]),
        "overhead, ours / torch-cam (at most 0.33)": statistics.median(peer),
        "whole, ours / torch-cam": statistics.median(
            ours / theirs
            for ours, theirs in zip(times["ours"], times["torch-cam"], strict=True)
        ),
    }
    if options.quantus:
        found |= quantus(inputs, batches, options, median_ms(outside["deletion"]))
    return found


def quantus(
    inputs: Tensor,
    batches: Sequence[MetricBatch],
    options: argparse.Namespace,
    ours_ms: float,
) -> dict[str, float]:
    """Return Quantus' overhead a changed image, measured in its own interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.npz"
        np.savez(
            given,
            inputs=inputs.cpu().numpy(),
            maps=torch.cat([batch.maps for batch in batches])[:, None].cpu().numpy(),
            targets=torch.cat([batch.targets for batch in batches]).cpu().numpy(),
        )
        done = subprocess.run(
            [
                options.quantus,
                str(Path(__file__).with_name("metrics_quantus.py")),
                str(given),
                str(options.threads),
                str(options.rounds),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    theirs = median_ms(json.loads(done.stdout.splitlines()[-1])["outside"])
    return {
        "overhead, ours, deletion alone, ms a changed image": ours_ms,
        "overhead, Quantus' flipping, ms a changed image": theirs,
        "overhead, ours / Quantus (at most 0.20)": ours_ms / theirs,
    }


def timed(
    rows: dict[str, Row],
    clocks: dict[str, Clocked],
    rounds: int,
    device: torch.device,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return seconds of each row and round, and those outside per changed image."""
    names = list(rows)
    times: dict[str, list[float]] = {name: [] for name in names}
    outside: dict[str, list[float]] = {name: [] for name in clocks}
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            clock = clocks.get(name)
            if clock is not None:
                clock.seconds, clock.images = 0.0, 0
            wait(device)
            start = time.perf_counter()
            rows[name]()
            wait(device)
            spent = time.perf_counter() - start
            if turn == 0:  # the first round warms up
                continue
            times[name].append(spent)
            if clock is not None:
                outside[name].append((spent - clock.seconds) / clock.images)
    return times, outside


def median_ms(seconds: Sequence[float]) -> float:
    """Return the median in milliseconds."""
    return statistics.median(seconds) * 1000


def road(device: torch.device, rounds: int) -> dict[str, float]:
    """Return what imputation takes beside a sparse direct solve on the CPU."""
    inputs = pictures(BATCH, device)
    rough = ItemDraws.counted(BATCH).uniform(2, (7, 7)).to(device)
    order = upsample(rough, SIZE).flatten(1).argsort(dim=1, descending=True)
    ranks = order.argsort(dim=1).view(BATCH, *SIZE)
    masks = [ranks >= int(share * ranks[0].numel()) for share in SHARES]
    host = inputs.cpu().double().numpy()
    ours: list[float] = []
    direct: list[float] = []
    away = 0.0
    for turn in range(rounds + 1):
        wait(device)
        start = time.perf_counter()
        filled = [imputed(inputs, kept).cpu() for kept in masks]
        middle = time.perf_counter()
        solved = [
            [solve(image, mask) for image, mask in zip(host, kept, strict=True)]
            for kept in (kept.cpu().numpy() for kept in masks)
        ]
        end = time.perf_counter()
        if turn:
            ours.append(middle - start)
            direct.append(end - middle)
        away = max(
            float(np.abs(one.double().numpy() - np.stack(two)).max())
            for one, two in zip(filled, solved, strict=True)
        )
    each = BATCH * len(SHARES)
    return {
        "ours, ms an image and share": median_ms(ours) / each,
        "direct solve, ms an image and share": median_ms(direct) / each,
        "times faster (at least 2; on a GPU 10)": statistics.median(
            theirs / mine for theirs, mine in zip(direct, ours, strict=True)
        ),
        "largest difference of a pixel, deviations": away,
    }


def solve(
    pixels: "np.ndarray[Any, Any]", kept: "np.ndarray[Any, Any]"
) -> "np.ndarray[Any, Any]":
    """Return the imputed image by one sparse direct solve of all channels."""
    height, width = kept.shape
    number = np.full((height + 2, width + 2), -1)
    unknown = np.argwhere(~kept)
    number[1:-1, 1:-1][~kept] = np.arange(len(unknown))
    inside = np.zeros((height + 2, width + 2), dtype=bool)
    inside[1:-1, 1:-1] = True
    framed = np.pad(pixels, ((0, 0), (1, 1), (1, 1)))
    rows, columns, values = [], [], []
    total = np.zeros(len(unknown))
    right = np.zeros((len(unknown), len(pixels)))
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            if not down and not across:
                continue
            weight = 1 / 6 if not down or not across else 1 / 12
            y, x = unknown[:, 0] + 1 + down, unknown[:, 1] + 1 + across
            total += weight * inside[y, x]
            other = number[y, x]
            linked = other >= 0
            rows.append(np.flatnonzero(linked))
            columns.append(other[linked])
            values.append(np.full(int(linked.sum()), -weight))
            known = inside[y, x] & ~linked
            right[known] += weight * framed[:, y[known], x[known]].T
    rows.append(np.arange(len(unknown)))
    columns.append(np.arange(len(unknown)))
    values.append(total)
    places = (np.concatenate(rows), np.concatenate(columns))
    system = csc_matrix((np.concatenate(values), places))
    result = pixels.copy()
    result[:, ~kept] = spsolve(system, right).reshape(right.shape).T
    return result


def profiles(model: nn.Module, device: torch.device) -> dict[str, float]:
    """Return the passes stated and counted of each profile, and what it takes."""
    found: dict[str, float] = {}
    inputs = pictures(BATCH, device)
    with frozen(model):
        batch = batch_of(model, inputs)
        clock = Clocked(model)
        explained = [0]

        def explain(images: Tensor, targets: Tensor) -> Any:
            explained[0] += len(images)
            return batch.explain(images, targets)

        networks = RandomNetworks(
            model,
            lambda copy: create_method("gradcam", copy, resolve_layer(copy)),
            inputs[:1],
            seed=0,
        )

        def at_random(images: Tensor, targets: Tensor, stage: int, of: int) -> Any:
            explained[0] += len(images)
            with networks.randomised(stage, of) as method:
                return method.explain(images, targets)

        start = time.perf_counter()
        with torch.no_grad():
            model(inputs)
        wait(device)
        single = time.perf_counter() - start
        for name in PROFILES:
            chosen = profile(name, truth=True)
            clock.images, explained[0] = 0, 0
            fresh = replace(
                batch,
                forward=clock,
                explain=explain,
                represent=Representation(clock),
                randomised=at_random,
            )
            start = time.perf_counter()
            for metric, given in chosen.items():
                create_metric(metric, **given).measure(fresh)
            wait(device)
            spent = time.perf_counter() - start
            cost = cost_of(chosen)
            found |= {
                f"{name}: metrics": len(chosen),
                f"{name}: forward passes stated": cost.forwards,
                f"{name}: forward passes counted": clock.images / BATCH,
                f"{name}: explanations stated": cost.explanations,
                f"{name}: explanations counted": explained[0] / BATCH,
                f"{name}: seconds an item": spent / BATCH,
                f"{name}: x one forward pass": spent / single,
            }
    return found


if __name__ == "__main__":
    sys.exit(main())

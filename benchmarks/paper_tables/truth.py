# SPDX-License-Identifier: Apache-2.0
"""The paper's table of ground truth, and precision and recall by threshold.

The paper compares "baseline Grad-CAM" with its masks of 5 and 10 %. Its code takes the
part of the map above half its maximum for the baseline, so that is the first row.
"""

from typing import Any

import torch

from explain.thresholds import sweep_fractions
from paper_tables.figures import mean_of, shown
from paper_tables.results import Results, Row
from paper_tables.setting import Setting, explained, gathered, share_of

TABLE = "truth"
CURVE = "curve"
BASELINE = "baseline, above half the maximum"
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    BASELINE: ("relative", {"fraction": 0.5}),
    "5 %": ("fixed", {"keep": 0.05}),
    "10 %": ("fixed", {"keep": 0.10}),
    "20 %": ("fixed", {"keep": 0.20}),
    "50 %": ("fixed", {"keep": 0.50}),
    "dynamic, a fifth of the energy": ("dynamic", {"by": "energy", "tau": 0.2}),
    "all that is positive": ("fixed", {"keep": 1.0}),
}
METRICS: dict[str, dict[str, Any]] = {"localisation": {}, "boundary_f1": {}}
VALUES = (
    "localisation_iou",
    "localisation_dice",
    "boundary_f1",
    "localisation_precision",
    "localisation_recall",
)
#: IoU, Dice, boundary F1, precision, recall of the paper's PASCAL VOC.
PAPER = {
    BASELINE: (0.48, 0.58, 0.45, 0.52, 0.75),
    "5 %": (0.43, 0.53, 0.41, 0.61, 0.56),
    "10 %": (0.46, 0.56, 0.44, 0.58, 0.62),
}
#: The fractions of the curve that the table names.
NAMED = (0.01, 0.02, 0.05, 0.10, 0.20, 0.30, 0.50, 0.75, 1.0)


def measure(given: Setting, results: Results) -> None:
    """Measure the object's share, each threshold, and the curve."""
    results.row(
        TABLE,
        "object's share",
        lambda: {"share": mean_of(share_of(given.truth), given.sequences)},
    )
    for name, (policy, arguments) in ROWS.items():

        def row(how: tuple[str, dict[str, Any]] = (policy, arguments)) -> Row:
            columns = gathered(given, METRICS, policy=how[0], threshold=how[1])
            keys = ("kept", *VALUES)
            return {key: mean_of(columns[key], given.sequences) for key in keys}

        results.row(TABLE, name, row)
    results.row(CURVE, CURVE, lambda: _curve(given))


def _curve(given: Setting) -> Row:
    """Return mean precision, recall and IoU at each fraction kept."""
    columns: dict[str, list[torch.Tensor]] = {"precision": [], "recall": [], "iou": []}
    fractions: list[float] = []
    for place in given.parts():
        maps = explained(given, place).found.maps
        swept = sweep_fractions(maps, given.truth[place])
        fractions = swept.fractions.tolist()
        for name, values in columns.items():
            values.append(getattr(swept, name))
    whole = {name: torch.cat(values) for name, values in columns.items()}
    return {
        "points": [
            {"keep": keep}
            | {
                name: mean_of(values[:, number].tolist(), given.sequences)
                for name, values in whole.items()
            }
            for number, keep in enumerate(fractions)
        ]
    }


def tables(rows: dict[str, Row], curve: dict[str, Row]) -> list[list[list[str]]]:
    """Return ground truth and the curve's named points as tables of text."""
    truth = [
        [
            "threshold",
            "kept",
            "IoU",
            "Dice",
            "boundary F1",
            "precision",
            "recall",
            "paper (VOC): IoU, Dice, BF1, P, R",
        ]
    ]
    for name in ROWS:
        if name in rows:
            values = [shown(rows[name][key]) for key in ("kept", *VALUES)]
            paper = PAPER.get(name)
            said = ", ".join(f"{value:.2f}" for value in paper) if paper else ""
            truth.append([name, *values, said])
    points = [["kept", "precision", "recall", "IoU"]]
    for point in curve.get(CURVE, {}).get("points", []):
        if any(abs(point["keep"] - named) < 1e-9 for named in NAMED):
            values = [shown(point[name]) for name in ("precision", "recall", "iou")]
            points.append([f"{point['keep']:.0%}", *values])
    return [truth, points]

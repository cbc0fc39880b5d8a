# SPDX-License-Identifier: Apache-2.0
"""The paper's table of thresholds: what 1, 5, 10, 20 % and the dynamic one give.

A row's time is that of a whole explanation from the input on: Grad-CAM for the
predicted class, stored form, mask. Beside it stands the thresholding step alone, on a
map that is there already, because the paper sets the one against the other.
"""

from typing import Any

import torch

from explain.maps import dequantise, upsample
from explain.metrics.batch import target_probability
from explain.thresholds import create_policy
from paper_tables.figures import mean_of, median_of, shown
from paper_tables.memory import peak_bytes
from paper_tables.results import Results, Row
from paper_tables.rounds import Seconds, interleaved, ratio
from paper_tables.setting import SIZE, Setting, explained, gathered

TABLE = "thresholds"
FULL = "full map"
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    FULL: ("fixed", {"keep": 1.0}),
    "1 %": ("fixed", {"keep": 0.01}),
    "5 %": ("fixed", {"keep": 0.05}),
    "10 %": ("fixed", {"keep": 0.10}),
    "20 %": ("fixed", {"keep": 0.20}),
    "dynamic, a fifth of the energy": ("dynamic", {"by": "energy", "tau": 0.2}),
}
#: Milliseconds, megabytes, speed-up and faithfulness that the paper gives.
PAPER = {
    FULL: (100.0, 256, 1.0, 1.0),
    "1 %": (0.31, 158, 324.74, 1.0),
    "5 %": (0.29, 163, 346.89, 1.0),
    "10 %": (0.35, 169, 284.96, 1.0),
    "20 %": (0.31, 182, 322.08, 1.0),
    "dynamic, a fifth of the energy": (0.32, 175, 310.45, 1.0),
}
METRICS: dict[str, dict[str, Any]] = {
    "confidence_retained": {},
    "comprehensiveness": {},
    "completeness": {},
    "mask_stability": {},
}
VALUES = (
    "kept",
    "confidence_retained",
    "comprehensiveness",
    "completeness_energy",
    "mask_stability_iou",
    "mask_stability_precision",
    "mask_stability_correlation",
)
#: Bytes beside the native map: scale, cut, fractions asked and achieved.
BESIDE = 4 + 8 + 8 + 8


def measure(given: Setting, results: Results, rounds: int) -> None:
    """Measure cost once for all rows, for ratios need the same rounds, then quality."""
    costs = results.row(TABLE, "cost", lambda: _costs(given, rounds))
    for name, (policy, arguments) in ROWS.items():

        def row(how: tuple[str, dict[str, Any]] = (policy, arguments)) -> Row:
            columns = gathered(given, METRICS, policy=how[0], threshold=how[1])
            return {key: mean_of(columns[key], given.sequences) for key in VALUES}

        results.row(TABLE, name, row)
    assert set(costs) == set(ROWS)


def _costs(given: Setting, rounds: int) -> Row:
    place = given.parts()[0]
    times, count = _times(given, place, rounds)
    native = explained(given, place).found.stored.values[0].numel()
    one = slice(0, 1)
    return {
        name: {
            "over_forward": ratio(times[name], times["forward"]),
            "over_full": ratio(times[name], times[FULL]),
            "step_ms": median_of([1e3 * t / count for t in times[f"{name} step"]]),
            "full_over_step": ratio(times[FULL], times[f"{name} step"]),
            "peak_bytes": peak_bytes(
                lambda policy=policy, given_=given, threshold=threshold: explained(
                    given_, one, policy=policy, threshold=threshold, fresh=True
                )
            ),
            "bytes": 2 * native + BESIDE,
        }
        for name, (policy, threshold) in ROWS.items()
    }


def _times(given: Setting, place: slice, rounds: int) -> tuple[Seconds, int]:
    """Return the seconds of each row, of its step alone, and of a forward pass."""
    inputs = given.inputs[place]
    maps = upsample(dequantise(explained(given, place).found.stored), SIZE)

    def forward() -> None:
        with torch.no_grad():
            logits = given.model(inputs)
            target_probability(logits, logits.argmax(dim=1)).tolist()

    calls: dict[str, Any] = {"forward": forward}
    for name, (policy, threshold) in ROWS.items():
        calls[name] = lambda policy=policy, threshold=threshold: explained(
            given, place, policy=policy, threshold=threshold, fresh=True
        )
        rule = create_policy(policy, **threshold)
        calls[f"{name} step"] = lambda rule=rule: rule.apply(maps)
    return interleaved(calls, rounds), len(inputs)


def tables(rows: dict[str, Row]) -> list[list[list[str]]]:
    """Return cost and quality as tables of text, the header first."""
    mib = 2**20
    cost = [
        [
            "threshold",
            "explanation / forward",
            "explanation / full map",
            "thresholding step alone, ms",
            "full Grad-CAM / step alone",
            "paper: speed-up",
            "peak MiB (paper: MB)",
            "bytes stored",
        ]
    ]
    for name, row in rows.get("cost", {}).items():
        paper = PAPER[name]
        cost.append(
            [
                name,
                shown(row["over_forward"], 2),
                shown(row["over_full"], 2),
                shown(row["step_ms"], 2),
                shown(row["full_over_step"], 0),
                f"{paper[2]:g}",
                f"{row['peak_bytes'] / mib:.1f} ({paper[1]})",
                str(row["bytes"]),
            ]
        )
    quality = [
        [
            "threshold",
            "kept",
            "confidence retained",
            "comprehensiveness",
            "completeness: energy kept",
            "mask IoU under noise",
            "average precision under noise",
            "correlation under noise",
            "paper: faithfulness",
        ]
    ]
    for name in ROWS:
        if name in rows:
            values = [shown(rows[name][key]) for key in VALUES]
            quality.append([name, *values, f"{PAPER[name][3]:.2f}"])
    return [cost, quality]

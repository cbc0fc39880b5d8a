# SPDX-License-Identifier: Apache-2.0
"""The paper's comparison of methods, at the sampling that it names.

Time is that of a whole explanation of one image, 10 % mask included, as a ratio to one
forward pass of that image, in rounds that run each method once. Quality is measured
with the top 10 % kept: deletion and insertion of the predicted class, and the overlap
with the object. All methods are our own.
"""

from typing import Any

import torch

from paper_tables.figures import mean_of, shown
from paper_tables.memory import peak_bytes
from paper_tables.results import Results, Row
from paper_tables.rounds import interleaved, ratio
from paper_tables.setting import Setting, explained, gathered

TABLE = "methods"
OURS = "Grad-CAM, 10 %"
LIME = "LIME, 100 samples"
#: Ours by the paper's names. "Reduced" is the paper's word for LIME's sampling; its
#: SHAP takes 5 samples, too few for the regression, so that 100 stand in.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    OURS: ("gradcam", {}),
    "guided backpropagation": ("guided_backprop", {}),
    "integrated gradients, 5 steps": ("integrated_gradients", {"steps": 5}),
    "occlusion, 4 x 4": ("occlusion", {"window": 56, "stride": 56}),
    "RISE, 100 masks of 8 x 8": ("rise", {"masks": 100}),
    LIME: ("lime", {"samples": 100}),
    "KernelSHAP, 100 samples": ("kernelshap", {"samples": 100}),
}
#: Milliseconds, megabytes and "quality score" that the paper gives.
PAPER = {
    OURS: (0.35, 169, 0.97),
    "guided backpropagation": (1.82, 215, 0.85),
    "integrated gradients, 5 steps": (4.76, 297, 0.89),
    "occlusion, 4 x 4": (15.3, 184, 0.82),
    LIME: (240.5, 352, 0.91),
    "KernelSHAP, 100 samples": (320.8, 412, 0.94),
}
METRICS: dict[str, dict[str, Any]] = {
    "deletion": {"steps": 10},
    "insertion": {"steps": 10},
    "localisation": {},
}
VALUES = ("deletion_auc", "insertion_auc", "localisation_iou")
KEEP = {"keep": 0.10}


def measure(given: Setting, results: Results, rounds: int) -> None:
    """Measure cost once for all rows, for ratios need the same rounds, then quality."""
    results.row(TABLE, "cost", lambda: _costs(given, rounds))
    for name, (method, parameters) in ROWS.items():

        def row(how: tuple[str, dict[str, Any]] = (method, parameters)) -> Row:
            columns = gathered(
                given, METRICS, method=how[0], parameters=how[1], threshold=KEEP
            )
            return {key: mean_of(columns[key], given.sequences) for key in VALUES}

        results.row(TABLE, name, row)


def _costs(given: Setting, rounds: int) -> Row:
    one = slice(0, 1)
    inputs = given.inputs[one]

    def forward() -> None:
        with torch.no_grad():
            given.model(inputs)

    calls: dict[str, Any] = {"forward": forward}
    for name, (method, parameters) in ROWS.items():
        calls[name] = lambda method=method, parameters=parameters: explained(
            given,
            one,
            method=method,
            parameters=parameters,
            threshold=KEEP,
            fresh=True,
        )
    times = interleaved(calls, rounds)
    return {
        name: {
            "over_forward": ratio(times[name], times["forward"]),
            "lime_over": ratio(times[LIME], times[name]),
            "passes": given.method(*ROWS[name]).passes,
            "peak_bytes": peak_bytes(calls[name]),
        }
        for name in ROWS
    }


def tables(rows: dict[str, Row]) -> list[list[list[str]]]:
    """Return the comparison as a table of text, the header first."""
    table = [
        [
            "method",
            "explanation / forward",
            "passes, stated",
            "LIME / this",
            "peak MiB",
            "deletion (less is better)",
            "insertion (more is better)",
            "IoU at 10 %",
            "paper: ms, MB, quality",
        ]
    ]
    costs = rows.get("cost", {})
    for name in ROWS:
        if name not in rows or name not in costs:
            continue
        cost = costs[name]
        paper = PAPER.get(name)
        table.append(
            [
                name,
                shown(cost["over_forward"], 1),
                f"{cost['passes']:g}",
                shown(cost["lime_over"], 1),
                f"{cost['peak_bytes'] / 2**20:.0f}",
                *(shown(rows[name][key]) for key in VALUES),
                ", ".join(f"{value:g}" for value in paper) if paper else "",
            ]
        )
    return [table]

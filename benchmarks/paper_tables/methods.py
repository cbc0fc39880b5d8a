# SPDX-License-Identifier: Apache-2.0
"""The paper's comparison of methods, at the sampling that it names.

Time is that of a whole explanation of one image, 10 % mask included, as a ratio to one
forward pass of that image, in rounds of a few passes and the method. Quality is that of
the top 10 %: deletion and insertion of the predicted class, and the overlap with the
object. All methods are our own.
"""

from typing import Any

import torch

from paper_tables.figures import mean_of, shown
from paper_tables.memory import peak_bytes
from paper_tables.results import Results, Row
from paper_tables.rounds import interleaved, ratio
from paper_tables.setting import Setting, explained, gathered

TABLE = "methods"
COSTS = "costs of methods"
#: Forward passes that a ratio's lower side is the mean of.
FORWARDS = 5
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
    """Measure the quality of each row, then the cost of each."""
    for name, (method, parameters) in ROWS.items():

        def row(how: tuple[str, dict[str, Any]] = (method, parameters)) -> Row:
            columns = gathered(
                given, METRICS, method=how[0], parameters=how[1], threshold=KEEP
            )
            return {key: mean_of(columns[key], given.sequences) for key in VALUES}

        results.row(TABLE, name, row)
    for name in ROWS:
        results.row(COSTS, name, lambda name=name: _cost(given, name, rounds))


def _cost(given: Setting, name: str, rounds: int) -> Row:
    """Return what one image costs, in rounds of a forward pass and the method."""
    one = slice(0, 1)
    inputs = given.inputs[one]
    method, parameters = ROWS[name]

    def forward() -> None:
        with torch.no_grad():
            for _ in range(FORWARDS):
                given.model(inputs)

    def explain() -> None:
        explained(
            given,
            one,
            method=method,
            parameters=parameters,
            threshold=KEEP,
            fresh=True,
        )

    times = interleaved({"forward": forward, "method": explain}, rounds)
    single = [seconds / FORWARDS for seconds in times["forward"]]
    return {
        "over_forward": ratio(times["method"], single),
        "passes": given.method(method, parameters).passes,
        "peak_bytes": peak_bytes(explain),
    }


def tables(rows: dict[str, Row], costs: dict[str, Row]) -> list[list[list[str]]]:
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
    lime = costs[LIME]["over_forward"]["value"] if LIME in costs else None
    for name in ROWS:
        if name not in rows and name not in costs:
            continue
        cost, paper = costs.get(name), PAPER.get(name)
        table.append(
            [
                name,
                *(_cost_shown(cost, lime) if cost else ["not measured"] * 4),
                *(shown(rows[name][key]) if name in rows else "" for key in VALUES),
                ", ".join(f"{value:g}" for value in paper) if paper else "",
            ]
        )
    return [table]


def _cost_shown(cost: Row, lime: float | None) -> list[str]:
    over = cost["over_forward"]
    return [
        shown(over, 1),
        f"{cost['passes']:g}",
        f"{lime / over['value']:.1f}" if lime else "none",
        f"{cost['peak_bytes'] / 2**20:.0f}",
    ]

# SPDX-License-Identifier: Apache-2.0
"""What explaining rows of tables costs, beside the forward pass alone.

    python -m benchmarks.kinds_table

A network of 64 numbers and two hidden layers, and 80 boosted trees, on batches of 256
rows: each method's time over the network's own, the median of interleaved repeats. No
target is set for tables: their networks are so small that much of it is the handling
of tensors. How far DeepLIFT's and the trees' sums are from the change of the output is
printed beside, and must stay below 1e-4.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

from explain.methods import METHODS, create_method
from explain.methods.gated_parameters import for_gates
from explain.tables.gated_table import GatedTable
from explain.tables.rows import RowContent, RowSpace
from explain.tables.trees import TreeEnsemble

ROWS, NUMBERS, COLUMNS, REPEATS = 256, 64, 20, 15


def network() -> nn.Module:
    """Return a perceptron of a usual size, seeded."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(NUMBERS, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 2),
    ).eval()


def trees() -> TreeEnsemble:
    """Return boosted trees that were fitted to a seeded rule."""
    import xgboost

    from pipeline.models.weights import read_file
    from pipeline.models.xgboost_trees import read

    draw = np.random.default_rng(0)
    rows = draw.normal(size=(2000, NUMBERS)).astype(np.float32)
    labels = (rows[:, 0] * rows[:, 1] + rows[:, 2] > 0).astype(int)
    wanted = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1}
    booster = xgboost.train(wanted, xgboost.DMatrix(rows, labels), 80)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        booster.save_model(str(path))
        return read(read_file(path))


def behind_gates(module: nn.Module) -> GatedTable:
    """Return seeded rows of columns of three or four numbers behind gates."""
    draw = np.random.default_rng(1)
    share = [
        NUMBERS // COLUMNS + (place < NUMBERS % COLUMNS) for place in range(COLUMNS)
    ]
    where = RowSpace(widths=tuple(share), baseline=np.zeros(NUMBERS, dtype=np.float32))
    rows = draw.normal(size=(ROWS, NUMBERS)).astype(np.float32)
    return GatedTable(module, [RowContent(where, row) for row in rows])


def timed(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of each work, all taken in turn."""
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(found) for name, found in seconds.items()}


def ratios(module: nn.Module, methods: list[str]) -> dict[str, float]:
    """Return each method's time over that of the forward pass."""
    gated = behind_gates(module)
    gates = gated.open_gates()
    rows = gated.rows(gates)

    def forward() -> object:
        with torch.no_grad():
            return module(rows)

    works: dict[str, Callable[[], object]] = {"forward": forward}
    for name in methods:
        given = for_gates(name, METHODS[name].parameters, {})
        if name == "kernelshap":
            given["samples"] = 64
        method = create_method(name, gated, **given)
        works[name] = lambda method=method: method.explain(gates, None)
    seconds = timed(works)
    base = seconds.pop("forward")
    return {name: found / base for name, found in seconds.items()}


def largest_residual(module: nn.Module, name: str) -> float:
    """Return how far a row's map is from the change of its output, at most."""
    gated = behind_gates(module)
    found = create_method(name, gated).explain(gated.open_gates(), None)
    if found.output_change is None:
        raise AssertionError(f"{name} has no completeness axiom")
    return float(
        (found.maps.double().sum(dim=(1, 2)) - found.output_change).abs().max()
    )


def main() -> int:
    """Print each ratio, and each residual, with its verdict; return the exit code."""
    torch.set_num_threads(1)
    module, forest = network(), trees()
    asked = ["gradient_x_input", "deeplift", "integrated_gradients", "kernelshap"]
    missed = 0
    print(f"{ROWS} rows of {COLUMNS} columns, {NUMBERS} numbers; times over forward")
    for name, ratio in ratios(module, asked).items():
        print(f"  network  {name:<22} {ratio:8.2f}")
    for name, ratio in ratios(forest, ["tree_shap", "occlusion"]).items():
        print(f"  trees    {name:<22} {ratio:8.2f}")
    for label, owner, name in (
        ("network", module, "deeplift"),
        ("trees", forest, "tree_shap"),
    ):
        residual = largest_residual(owner, name)
        verdict = "met" if residual < 1e-4 else "missed"
        missed += verdict == "missed"
        print(f"  {label:<8} {name} residual {residual:.1e}  target 1e-4: {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())

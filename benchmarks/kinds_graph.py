# SPDX-License-Identifier: Apache-2.0
"""What explaining graphs costs, beside a forward pass and beside torch-geometric.

    python benchmarks/kinds_graph.py

Sixteen random graphs of 30 nodes and 45 edges under a GIN of three layers, in eval
mode on one thread; the median of interleaved rounds. Forward is the network on each
graph by itself, which is how graphs are explained; the last line says what that costs
beside one pass over all of them.
"""

import copy
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explain.graphs.content import Graph, make_graph
from explain.graphs.gated import GraphNetwork
from explain.methods import create_method

GRAPHS, NODES, EDGES, FEATURES = 16, 30, 45, 12
ROUNDS = 5
#: Ratio, its bound, and whether less is better.
Row = tuple[str, float, float | None, bool]


def graphs() -> list[Graph]:
    """Return seeded graphs of one size."""
    draws = np.random.default_rng(0)
    found = []
    for _number in range(GRAPHS):
        pairs = [(u, v) for u in range(NODES) for v in range(u)]
        chosen = draws.choice(len(pairs), size=EDGES, replace=False)
        edges = np.array([pairs[place] for place in chosen], dtype=np.int64).T
        features = draws.normal(size=(NODES, FEATURES)).astype(np.float32)
        found.append(make_graph(features, edges, undirected=True))
    return found


def seconds(works: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median time of each, the rounds interleaved."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _round in range(ROUNDS):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in times.items()}


def peers(model: Any, inputs: list[Any], steps: int) -> dict[str, Callable[[], Any]]:
    """Return torch-geometric's own explainers on each graph."""
    from torch_geometric.explain import CaptumExplainer, Explainer, GNNExplainer

    def explainer(algorithm: Any) -> Any:
        return Explainer(
            copy.deepcopy(model),
            algorithm,
            explanation_type="model",
            edge_mask_type="object",
            model_config={
                "mode": "multiclass_classification",
                "task_level": "graph",
                "return_type": "raw",
            },
        )

    def all_of(algorithm: Any) -> Callable[[], Any]:
        # Of a network of its own: masks that one leaves behind break the next.
        each = explainer(algorithm)
        return lambda: [each(x, edges, batch=batch) for x, edges, batch in inputs]

    return {
        "captum gradient": all_of(CaptumExplainer("InputXGradient")),
        "captum paths": all_of(CaptumExplainer("IntegratedGradients", n_steps=50)),
        "peer masks": all_of(GNNExplainer(epochs=steps)),
    }


def measured() -> list[Row]:
    """Return each ratio with its bound."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from pipeline.models.graph_classifier import GraphClassifier

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GraphClassifier("gin", features=FEATURES, hidden=64, layers=3, classes=2)
    model.eval().requires_grad_(requires_grad=False)
    every = graphs()
    gated = GraphNetwork(model, every)
    gates = gated.open_gates()
    none = torch.zeros(NODES, dtype=torch.int64)
    inputs = [
        (torch.from_numpy(one.features), torch.from_numpy(one.edges), none)
        for one in every
    ]
    side_by_side = (
        torch.cat([x for x, _edges, _batch in inputs]),
        torch.cat([e + NODES * n for n, (_x, e, _b) in enumerate(inputs)], dim=1),
        torch.arange(GRAPHS).repeat_interleave(NODES),
    )
    steps = 20

    def method(name: str, **parameters: Any) -> Callable[[], Any]:
        made = create_method(name, gated, **parameters)
        return lambda: made.explain(gates, None)

    def forward() -> None:
        with torch.no_grad():
            for one in inputs:
                model(*one)

    def at_once() -> None:
        with torch.no_grad():
            model(*side_by_side)

    found = seconds(
        {
            "forward": forward,
            "at once": at_once,
            "gradient": method("gradient_x_input"),
            "paths": method("integrated_gradients", steps=50),
            "masks": method("gnn_explainer", steps=steps),
            **peers(model, inputs, steps),
        }
    )
    one = found["forward"]
    return [
        ("gradient x input / forward", found["gradient"] / one, 4.5, True),
        ("captum's through torch-geometric / ours",
         found["captum gradient"] / found["gradient"], 1.0, False),
        ("integrated gradients, 50 points / forward", found["paths"] / one, None, True),
        ("captum's through torch-geometric / ours",
         found["captum paths"] / found["paths"], 1.0, False),
        (f"GNNExplainer, {steps} steps / forward", found["masks"] / one, None, True),
        ("torch-geometric's / ours", found["peer masks"] / found["masks"], 0.7, False),
        ("graphs one by one / side by side", one / found["at once"], None, True),
    ]  # fmt: skip


def main() -> int:
    """Print the ratios; 1 where a bound is missed."""
    missed = 0
    for name, ratio, bound, less in measured():
        verdict = "no bound"
        if bound is not None:
            held = ratio <= bound if less else ratio >= bound
            missed += not held
            sign = "<=" if less else ">="
            verdict = f"{'holds' if held else 'MISSED'} ({sign} {bound:g})"
        print(f"{name:45s} {ratio:8.2f}  {verdict}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

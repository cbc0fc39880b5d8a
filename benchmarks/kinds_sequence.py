# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - the path must be mended first
"""What explaining sequences costs beside a plain forward pass.

    python benchmarks/kinds_sequence.py

Batch 16, one thread. Each round runs every row once, and ratios are taken within a
round; the figure is their median. Time is the thread's own, so that other work on the
machine disturbs caches at most. The forward pass is that of the network as it is, not
seen through gates.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

# As a script this file would stand beside pipeline.py, before the package of its name.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).parent]
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explain.methods import create_method
from explain.sequences.content import SequenceContent
from explain.sequences.network import GatedSequences
from pipeline.models import recurrent

ITEMS, FEATURES, CLASSES, ROUNDS = 16, 6, 5, 15
#: Ratio to the forward pass that each method may take of an LSTM; of others it is told.
MOST = {"gradient_x_input": 4.5, "hidden_state_gradient": 10.0}


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the table."""

    kind: str
    hidden: int
    steps: int
    layers: int = 1

    @property
    def is_promised(self) -> bool:
        """Whether the limits are said of it."""
        return self.kind == "lstm"

    def __str__(self) -> str:
        return f"{self.kind}, {self.layers} x {self.hidden}, {self.steps} steps"


NETWORKS = (
    Network("lstm", 64, 100),
    Network("lstm", 128, 100),
    Network("lstm", 64, 200, 2),
    Network("gru", 64, 100),
    Network("bilstm", 64, 100),
)


def seconds(work: Callable[[], object]) -> float:
    """Return the thread's own time of one call."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def ratios(network: Network) -> tuple[float, dict[str, float]]:
    """Return the forward pass in ms an item, and each method's ratio to it."""
    torch.manual_seed(0)
    build: Any = getattr(recurrent, network.kind).build
    module: nn.Module = build(
        features=FEATURES, hidden=network.hidden, classes=CLASSES, layers=network.layers
    )
    module = module.eval().requires_grad_(requires_grad=False)
    random = np.random.default_rng(0)
    items = [
        random.standard_normal((network.steps, FEATURES)).astype(np.float32)
        for _ in range(ITEMS)
    ]
    gated = GatedSequences(module, [SequenceContent.of(item) for item in items])
    gates, inputs = gated.open_gates(), torch.from_numpy(np.stack(items))
    lengths = torch.full((ITEMS,), network.steps)

    @torch.no_grad()
    def forward() -> object:
        return module(inputs, lengths)

    methods = {name: create_method(name, gated) for name in MOST}
    work: dict[str, Callable[[], object]] = {
        name: lambda method=method: method.explain(gates, None)  # type: ignore[misc]
        for name, method in methods.items()
    }
    found: dict[str, list[float]] = {name: [] for name in work}
    plain: list[float] = []
    for number in range(ROUNDS + 2):
        base = seconds(forward)
        taken = {name: seconds(each) / base for name, each in work.items()}
        if number >= 2:
            plain.append(base)
            for name, ratio in taken.items():
                found[name].append(ratio)
    medians = {name: statistics.median(each) for name, each in found.items()}
    return 1000 * statistics.median(plain) / ITEMS, medians


def main() -> int:
    """Print each ratio with its verdict; return 1 where a promise is not kept."""
    torch.set_num_threads(1)
    kept = True
    for network in NETWORKS:
        forward_ms, found = ratios(network)
        print(f"{network}: forward {forward_ms:.3f} ms an item")
        for name, ratio in found.items():
            verdict = "told"
            if network.is_promised:
                verdict = "kept" if ratio <= MOST[name] else "MISSED"
                kept &= ratio <= MOST[name]
            print(f"  {name:24} {ratio:6.2f} x forward (<= {MOST[name]})  {verdict}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

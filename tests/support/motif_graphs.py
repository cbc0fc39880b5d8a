# SPDX-License-Identifier: Apache-2.0
"""Random trees of hubs with a house or a ring hung on: the class is the motif.

As BA-2Motifs of Luo et al. 2020, "Parameterized Explainer for Graph Neural Network",
section 5.1: preferential attachment (Barabasi and Albert 1999) with one edge a node.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tests.support.graph_samples import GraphClassifier

RING = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 0))
#: The ring with a beam beneath the roof.
HOUSE = (*RING, (1, 4))
TREE = 15


class MotifGraph(NamedTuple):
    """One graph, its edges stored once; the motif's are marked."""

    features: npt.NDArray[np.float32]
    edges: npt.NDArray[np.int64]
    marked: npt.NDArray[np.bool_]
    label: int


def motif_graph(seed: int) -> MotifGraph:
    """Return the graph of that number: even ones have a house, odd ones a ring."""
    draws = np.random.default_rng(seed)
    edges: list[tuple[int, int]] = [(0, 1)]
    while len(edges) < TREE - 1:
        ends = [node for edge in edges for node in edge]
        edges.append((len(edges) + 1, int(draws.choice(ends))))
    motif = [(a + TREE, b + TREE) for a, b in (RING if seed % 2 else HOUSE)]
    bridge = (int(draws.integers(TREE)), TREE + int(draws.integers(5)))
    nodes = TREE + 5
    shuffled = draws.permutation(nodes)
    every = shuffled[np.array([*edges, bridge, *motif])].T
    marked = np.arange(every.shape[1]) > len(edges)
    features = np.ones((nodes, 1), dtype=np.float32)
    return MotifGraph(features, every.astype(np.int64), marked, seed % 2)


def motif_network(graphs: int = 160, epochs: int = 40) -> nn.Module:
    """Return a network trained on the first graphs, in seconds and seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GraphClassifier("gin", features=1, hidden=20, layers=3, classes=2)
        inputs, labels = joined([motif_graph(seed) for seed in range(graphs)])
        fitter = torch.optim.Adam(model.parameters(), lr=0.01)
        for _epoch in range(epochs):
            fitter.zero_grad()
            nn.functional.cross_entropy(model(*inputs), labels).backward()
            fitter.step()
        # Norms of one large batch are those of the data.
        for norm in model.norms:
            norm.momentum = None
            norm.reset_running_stats()
        with torch.no_grad():
            model(*inputs)
    return model.eval()


def joined(graphs: list[MotifGraph]) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Return graphs side by side as a network takes them, and their labels."""
    size = TREE + 5
    edges = [
        torch.from_numpy(np.concatenate([one.edges, one.edges[::-1]], axis=1))
        + n * size
        for n, one in enumerate(graphs)
    ]
    features = torch.from_numpy(np.concatenate([one.features for one in graphs]))
    batch = torch.arange(len(graphs)).repeat_interleave(size)
    labels = torch.tensor([one.label for one in graphs])
    return (features, torch.cat(edges, dim=1), batch), labels

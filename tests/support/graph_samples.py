# SPDX-License-Identifier: Apache-2.0
"""Small graphs and graph networks for tests."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.graphs.content import Graph, make_graph
from pipeline.models import graph_networks, loading
from pipeline.models.architecture import Architecture

with warnings.catch_warnings():
    # torch-geometric uses what torch deprecates when it is imported.
    warnings.simplefilter("ignore")
    from pipeline.models.graph_classifier import GraphClassifier

FEATURES, CLASSES = 5, 3


def network(kind: str, *, seed: int = 0, features: int = FEATURES) -> GraphClassifier:
    """Return a small network with seeded weights and norms that have seen data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = GraphClassifier(
            kind, features=features, hidden=16, layers=3, classes=CLASSES
        )
        for norm in found.norms:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return found.eval()


def random_graph(
    nodes: int, edges: int, *, seed: int = 0, loops: bool = False, **options: Any
) -> Graph:
    """Return a graph of random edges, without doubled ones."""
    draws = np.random.default_rng(seed)
    pairs = [
        (u, v)
        for u in range(nodes)
        for v in range(nodes)
        if (u < v or (loops and u == v))
    ]
    chosen = draws.choice(len(pairs), size=min(edges, len(pairs)), replace=False)
    index = (
        np.array([pairs[place] for place in chosen], dtype=np.int64).reshape(-1, 2).T
    )
    features = draws.normal(size=(nodes, FEATURES)).astype(np.float32)
    return make_graph(features, index, **({"undirected": True} | options))


def tensors(graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a network takes: x, edge_index, batch."""
    batch = torch.zeros(graph.nodes, dtype=torch.int64)
    return torch.from_numpy(graph.features), torch.from_numpy(graph.edges), batch


class PlainGnn(nn.Module):
    """A network without torch-geometric: two rounds of weighted sums."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Linear(FEATURES, 8)
        self.second = nn.Linear(8, classes)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.5, generator=generator)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Return the logits, (G, K)."""
        if edge_weight is None:
            edge_weight = x.new_ones(edge_index.shape[1])
        for layer in (self.first, self.second):
            sent = layer(x)[edge_index[0]] * edge_weight[:, None]
            x = torch.tanh(layer(x).index_add(0, edge_index[1], sent))
        graphs = int(batch.max()) + 1
        return x.new_zeros((graphs, x.shape[1])).index_add(0, batch, x)


@contextmanager
def known_networks() -> Iterator[None]:
    """The graph architectures are known, also before the package is installed anew."""
    with pytest.MonkeyPatch.context() as patch:
        known = loading._registered

        def registered(name: str, *, plugins: bool) -> Architecture:
            own = {"gin": graph_networks.gin, "gcn": graph_networks.gcn}
            own["gat"] = graph_networks.gat
            return own[name] if name in own else known(name, plugins=plugins)

        patch.setattr(loading, "_registered", registered)
        yield


def document_of(graph: Graph, **more: Any) -> dict[str, Any]:
    """Return a graph as the JSON that is stored."""
    return {
        "x": graph.features.tolist(),
        "edge_index": graph.pairs.tolist(),
        "undirected": True,
    } | more

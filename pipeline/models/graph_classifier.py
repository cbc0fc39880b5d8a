# SPDX-License-Identifier: Apache-2.0
"""Graph classifiers of torch-geometric's layers: GIN, GCN and GAT.

    h_0 = x,  h_l = ReLU(norm(layer_l(h_{l-1}, edges))),
    logits = W [mean over nodes of h_L ; maximum over nodes of h_L] + b

Sources: Xu et al. 2019, "How Powerful are Graph Neural Networks?", equation 4.1; Kipf
and Welling 2017, "Semi-Supervised Classification with Graph Convolutional Networks",
equation 2; Velickovic et al. 2018, "Graph Attention Networks", equation 4.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import (
    GATConv,
    GCNConv,
    GINConv,
    global_max_pool,
    global_mean_pool,
)

#: Attention heads of a GAT layer; its width is divided among them.
_HEADS = 4


def _gin(width: int, hidden: int) -> Any:
    steps = nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden)
    )
    return GINConv(steps)


def _gcn(width: int, hidden: int) -> Any:
    return GCNConv(width, hidden)


def _gat(width: int, hidden: int) -> Any:
    if hidden % _HEADS:
        raise ValueError(f"hidden must be a multiple of {_HEADS}, the attention heads")
    return GATConv(width, hidden // _HEADS, heads=_HEADS)


_LAYERS: dict[str, Callable[[int, int], Any]] = {"gin": _gin, "gcn": _gcn, "gat": _gat}


class GraphClassifier(nn.Module):
    """Layers of one kind, and a linear map of the mean and the maximum of nodes."""

    def __init__(
        self, kind: str, *, features: int, hidden: int, layers: int, classes: int
    ) -> None:
        """Build the network.

        Args:
            kind: Of ``gin``, ``gcn``, ``gat``.
            features: Numbers of a node.
            hidden: Width of the layers.
            layers: How many there are.
            classes: How many class scores are returned.
        """
        super().__init__()
        if min(features, hidden, layers, classes) < 1:
            raise ValueError("features, hidden, layers and classes must be at least 1")
        widths = [features, *[hidden] * layers]
        self.layers = nn.ModuleList(
            _LAYERS[kind](before, hidden) for before in widths[:-1]
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(layers))
        self.out = nn.Linear(2 * hidden, classes)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        """Return the logits of each graph of a batch.

        Shape: x (V, F), edge_index (2, E) int64, batch (V,) int64, the graph of each
        node, rising from 0 -> (G, K).
        """
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x, edge_index)))
        pooled = [global_mean_pool(x, batch), global_max_pool(x, batch)]
        logits: Tensor = self.out(torch.cat(pooled, dim=1))
        return logits

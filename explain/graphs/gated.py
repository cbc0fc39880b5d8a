# SPDX-License-Identifier: Apache-2.0
"""A graph classifier that sees some graphs through the gates of their edges or nodes.

An edge's gate scales its messages (`explain.graphs.edge_gates`), or the edge weight of
a network that passes no messages of torch-geometric but takes weights. A node's gate
scales its features, whose baseline is zero; with `remove` it closes the node's edges
too, an edge's gate being the product of its ends', a loop's that of its node.

Each graph is computed apart from its neighbours, only its copies together: products of
matrices have other last bits at other heights, so what a graph's neighbours are would
show in its map.
"""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError, UnsupportedModelError
from explain.gates import GatedNetwork
from explain.graphs.content import Graph
from explain.graphs.edge_gates import EdgeGates, gated_messages, message_layers
from explain.graphs.unit_names import EDGE, NODE


class GraphNetwork(GatedNetwork):
    """A network and the graphs that it sees."""

    def __init__(self, network: nn.Module, graphs: Sequence[Graph]) -> None:
        """Take network and graphs.

        Raises:
            InvalidInputError: a graph without units.
            UnsupportedModelError: edges cannot be gated in this network.
        """
        super().__init__([graph.units for graph in graphs])
        self.network = network
        self.graphs = tuple(graphs)
        self._weighted = self._takes_weights(network)
        for place, graph in enumerate(graphs):
            self._keep(f"features_{place}", graph.features)
            self._keep(f"edges_{place}", graph.edges)
            self._keep(f"unit_of_edge_{place}", graph.unit_of_edge)
            if graph.edge_features is not None:
                self._keep(f"edge_features_{place}", graph.edge_features)

    def forward(self, gates: Tensor) -> Tensor:
        """Return the logits of the graphs seen through the gates.

        Shape: gates (M, 1, 1, w), M a multiple of the graphs -> (M, K).

        Raises:
            InvalidInputError: gates of another shape.
            UnsupportedModelError: the network uses other edges than the graph's.
        """
        if gates.shape[1:] != (1, *self.field):
            raise InvalidInputError(
                f"Expected gates of shape {(1, *self.field)} an item, got"
                f" {tuple(gates.shape[1:])}."
            )
        self.item_of_rows(len(gates))
        copies = len(gates) // len(self.graphs)
        rows = torch.split(gates[:, 0, 0], copies)
        return torch.cat([self.logits(place, row) for place, row in enumerate(rows)])

    def logits(self, place: int, gates: Tensor) -> Tensor:
        """Return the logits of copies of one graph, each with gates of its own.

        Shape: gates (C, w) -> (C, K).
        """
        graph, copies = self.graphs[place], len(gates)
        own = gates[:, : graph.units[1]]
        features = self.kept("features", place).expand(copies, -1, -1)
        if graph.per == NODE:
            features = features * own[:, :, None]
        edges = self.union(place, copies)
        scale = self._edge_gates(place, own)
        given: dict[str, Any] = {}
        if graph.edge_features is not None:
            given["edge_attr"] = self.kept("edge_features", place).repeat(copies, 1)
        context: Any = nullcontext()
        if scale is not None and self._weighted:
            given["edge_weight"] = scale
        elif scale is not None:
            found = EdgeGates(edges, scale, copies * graph.nodes)
            context = gated_messages(self.network, found)
        batch = torch.arange(copies, device=gates.device)
        with context:
            logits: Tensor = self.network(
                features.reshape(copies * graph.nodes, -1),
                edges,
                batch=batch.repeat_interleave(graph.nodes),
                **given,
            )
        return logits

    def union(self, place: int, copies: int) -> Tensor:
        """Return the edges of copies of one graph side by side, (2, C * E)."""
        edges = self.kept("edges", place)
        offsets = torch.arange(copies, device=edges.device) * self.graphs[place].nodes
        return (edges[:, None] + offsets[None, :, None]).flatten(1)

    def kept(self, name: str, place: int) -> Tensor:
        """Return an array of one graph as a tensor, on the network's device."""
        return self.get_buffer(f"{name}_{place}")

    def neighbours(self, item: int = 0) -> Tensor:
        """Return which units of a graph touch: edges at a node, nodes at an edge.

        Shape: (U, U) bool, symmetric, false on the diagonal.
        """
        graph = self.graphs[item]
        units = graph.units[1]
        found = np.zeros((units, units), dtype=np.bool_)
        if graph.per == NODE:
            found[graph.pairs[0], graph.pairs[1]] = True
            found[graph.pairs[1], graph.pairs[0]] = True
        else:
            ends = np.concatenate(graph.pairs)
            by_node = np.argsort(ends, kind="stable") % units
            bounds = np.searchsorted(np.sort(ends), np.arange(1, graph.nodes))
            for touching in np.split(by_node, bounds):
                found[np.ix_(touching, touching)] = True
        np.fill_diagonal(found, val=False)
        return torch.from_numpy(found)

    def _edge_gates(self, place: int, own: Tensor) -> Tensor | None:
        """Return the gate of each edge of the union, (C * E,); None where all are 1."""
        graph = self.graphs[place]
        if graph.per == EDGE:
            return own[:, self.kept("unit_of_edge", place)].flatten()
        if not graph.remove:
            return None
        source, target = self.kept("edges", place)
        other = torch.where(source == target, 1.0, own[:, target])
        return (own[:, source] * other).flatten()

    def _keep(self, name: str, array: Any) -> None:
        self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def _takes_weights(self, network: nn.Module) -> bool:
        """Return whether edges are gated as weights, refusing where they cannot be."""
        if message_layers(network):
            return False
        if "edge_weight" in inspect.signature(network.forward).parameters:
            return True
        if any(graph.per == EDGE or graph.remove for graph in self.graphs):
            raise UnsupportedModelError(
                "The network has no message-passing layer of torch-geometric and takes"
                " no edge_weight, so its edges cannot be gated; rank nodes (per: node),"
                " or let forward take edge_weight."
            )
        return False

# SPDX-License-Identifier: Apache-2.0
"""Gates at the messages of a graph network: what travels an edge is scaled by its gate.

    m'(u -> v) = g(u, v) * m(u -> v)    in every layer

Normalisations and attention stay those of the whole graph, as in the mask of Ying et
al. 2019, "GNNExplainer", section 4.1. Loops that a layer adds by itself are no edges of
the graph, so they stay open; also where the graph has that loop too, because such a
layer would put it back.

Layers of torch-geometric call hooks before they propagate and after each message; they
are registered for one forward pass and removed on every path out of it.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import UnsupportedModelError

_LAYERS = "torch_geometric.nn.conv.message_passing"


def message_layers(network: nn.Module) -> list[Any]:
    """Return the network's layers of torch-geometric that pass messages.

    A network that has any was made by torch-geometric, which is then imported.
    """
    module = sys.modules.get(_LAYERS)
    if module is None:
        return []
    kind = module.MessagePassing
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, kind) and layer.explain is not False
    ]


class EdgeGates:
    """The gates of a union of graphs, looked up for the edges that a layer uses.

    Shape: edges (2, E) int64, gates (E,) float.
    """

    def __init__(self, edges: Tensor, gates: Tensor, nodes: int) -> None:
        """Take the edges; those that join the same nodes have the same gate."""
        self.nodes = nodes
        self._edges = edges
        self._gates = gates
        self._order: tuple[Tensor, Tensor] | None = None
        self._last: tuple[Tensor, bool, Tensor] | None = None

    def of(self, edges: Tensor, *, adds_loops: bool) -> Tensor:
        """Return the gate of each edge that a layer uses, 1 of loops that it added.

        Shape: (2, L) -> (L,).

        Raises:
            UnsupportedModelError: the graph does not have one of the edges.
        """
        if edges is self._edges and not adds_loops:
            return self._gates
        if self._last is not None:
            known, flag, found = self._last
            if flag == adds_loops and torch.equal(known, edges):
                return found
        found = self._looked_up(edges, adds_loops=adds_loops)
        self._last = (edges, adds_loops, found)
        return found

    def places(self, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Return where in the graph's edges each edge lies, and whether it does.

        Shape: (2, L) -> (L,) int64 and (L,) bool.
        """
        if self._order is None:
            keys = self._edges[0] * self.nodes + self._edges[1]
            self._order = torch.sort(keys, stable=True)
        keys, order = self._order
        wanted = edges[0] * self.nodes + edges[1]
        if not len(keys):
            return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return order[place], keys[place] == wanted

    def _looked_up(self, edges: Tensor, *, adds_loops: bool) -> Tensor:
        loops = edges[0] == edges[1]
        place, there = self.places(edges)
        if not bool((there | loops).all()):
            raise UnsupportedModelError(
                "A layer passes messages along edges that the graph does not have; use"
                " a method that ranks nodes (per: node), or another network."
            )
        open_ones = loops & ~there if not adds_loops else loops
        if not len(self._gates):
            return self._gates.new_ones(edges.shape[1])
        return torch.where(open_ones, 1.0, self._gates[place])


@contextmanager
def gated_messages(network: nn.Module, gates: EdgeGates) -> Iterator[None]:
    """Within the block, the network's messages are scaled by the gates of their edges.

    Raises:
        UnsupportedModelError: on the forward pass, where a layer has other nodes or
            edges than the graph.
    """
    with ExitStack() as hooks:
        for layer in message_layers(network):
            scaled = _ScaledLayer(layer, gates)
            for handle in scaled.register():
                hooks.callback(handle.remove)
        yield


class _ScaledLayer:
    """The hooks of one layer during one forward pass."""

    def __init__(self, layer: Any, gates: EdgeGates) -> None:
        self._layer = layer
        self._gates = gates
        self._now: Tensor | None = None

    def register(self) -> Iterator[Any]:
        """Register the hooks, one handle after the other."""
        yield self._layer.register_forward_pre_hook(self._see_nodes, with_kwargs=True)
        yield self._layer.register_propagate_forward_pre_hook(self._see_edges)
        yield self._layer.register_message_forward_hook(self._scale)

    def _see_nodes(
        self, _layer: nn.Module, arguments: Any, named: dict[str, Any]
    ) -> None:
        refuse_other_nodes(arguments, named, self._gates.nodes)

    def _see_edges(self, layer: Any, inputs: tuple[Any, ...]) -> None:
        adds_loops = bool(getattr(layer, "add_self_loops", False))
        self._now = self._gates.of(require_edges(inputs[0]), adds_loops=adds_loops)

    def _scale(self, layer: Any, _inputs: Any, message: Tensor) -> Tensor:
        shape = [1] * message.ndim
        shape[layer.node_dim] = -1
        assert self._now is not None  # noqa: S101 - a layer propagates before messages
        return message * self._now.view(shape)


def refuse_other_nodes(arguments: Any, named: dict[str, Any], nodes: int) -> None:
    """Nothing happens if a layer is given as many nodes as the graph has.

    Raises:
        UnsupportedModelError: the network pooled them before.
    """
    given = arguments[0] if arguments else named.get("x")
    given = given[0] if isinstance(given, tuple | list) else given
    if isinstance(given, Tensor) and given.ndim > 1 and len(given) != nodes:
        raise UnsupportedModelError(
            f"A layer sees {len(given)} nodes of {nodes}: the network drops or merges"
            " nodes between its layers, so its later edges are none of the graph's;"
            " use a network that pools once, at its end."
        )


def require_edges(edges: Any) -> Tensor:
    """Return the edges that a layer uses, refusing what is no list of them.

    Raises:
        UnsupportedModelError: they are a sparse matrix.
    """
    if not isinstance(edges, Tensor) or edges.layout != torch.strided:
        raise UnsupportedModelError(
            "A layer multiplies with a sparse adjacency matrix, so its messages cannot"
            " be seen; build it on edge_index, without a transform to sparse tensors."
        )
    return edges

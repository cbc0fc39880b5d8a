# SPDX-License-Identifier: Apache-2.0
"""Graph attention: what the layers' attention gives each edge.

    map[e] = mean over the directed edges of unit e of
             mean over layers l of mean over heads h of alpha[l, h, edge]

Loops that layers add are left out. With `over: max` the two inner means are maxima.

Source: Velickovic et al. 2018, "Graph Attention Networks", equation 3; as an
explanation of edges: Ying et al. 2019, "GNNExplainer", section 5 (the baseline ATT).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.errors import UnsupportedModelError
from explain.frozen import frozen
from explain.graphs.edge_gates import EdgeGates, message_layers, require_edges
from explain.graphs.gated import GraphNetwork
from explain.graphs.unit_names import EDGE
from explain.methods.input_forward import as_columns, like_targets, spoiled
from explain.methods.method import Attribution, chosen_targets


class GraphAttention:
    """The attention of one network behind gates, as an explanation."""

    name = "graph_attention"
    passes = 1.0

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        over: str = "mean",
    ) -> None:
        """Take the network.

        Raises:
            UnsupportedModelError: its units are no edges, or it is of no graphs.
        """
        if not isinstance(model, GraphNetwork):
            raise UnsupportedModelError(
                "Method 'graph_attention' explains graphs; take another for items of"
                " another kind."
            )
        if any(graph.per != EDGE for graph in model.graphs):
            raise UnsupportedModelError(
                "Method 'graph_attention' ranks edges; set data.options per to edge."
            )
        self._model = model
        self._over = over

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the attention, the same for every class.

        Shape: inputs (N, 1, 1, w), targets (N,) or (N, T) int64 -> maps (N, 1, w).

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: no layer has attention over edges.
        """
        rows, maps = [], []
        with frozen(self._model), torch.no_grad():
            for place, gates in enumerate(inputs[:, 0, 0].detach()):
                with _attention(self._model) as seen:
                    rows.append(self._model.logits(place, gates[None]))
                maps.append(self._of_units(place, seen))
        logits = torch.cat(rows).float()
        classes = chosen_targets(logits, targets)
        count = as_columns(classes).shape[1]
        whole = torch.stack(maps)[:, None, None].expand(-1, count, -1, -1)
        blank = (whole == 0).all(dim=3).all(dim=2)
        return Attribution(
            logits=logits,
            targets=classes,
            maps=like_targets(spoiled(whole, logits, classes), classes),
            zero_gradient=like_targets(blank, classes),
        )

    def _of_units(self, place: int, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the attention of each unit, zero behind the item's own, (w,)."""
        edges = self._model.kept("edges", place)
        known = EdgeGates(edges, edges.new_ones(0), self._model.graphs[place].nodes)
        layers = []
        for used, weights in seen:
            where, there = known.places(used)
            there &= used[0] != used[1]
            heads = weights.flatten(1) if weights.ndim > 1 else weights[:, None]
            share = self._reduced(heads, 1)[there]
            sums = share.new_zeros(edges.shape[1]).index_add(0, where[there], share)
            times = share.new_zeros(edges.shape[1]).index_add(
                0, where[there], torch.ones_like(share)
            )
            layers.append(sums / times.clamp(min=1))
        of_edges = self._reduced(torch.stack(layers, dim=1), 1)
        unit = self._model.kept("unit_of_edge", place)
        total = of_edges.new_zeros(self._model.field[1]).index_add(0, unit, of_edges)
        count = torch.bincount(unit, minlength=len(total)).clamp(min=1)
        return (total / count).float()

    def _reduced(self, values: Tensor, axis: int) -> Tensor:
        return values.amax(axis) if self._over == "max" else values.mean(axis)


@contextmanager
def _attention(model: GraphNetwork) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield a list that a forward pass fills with each layer's edges and attention.

    Raises:
        UnsupportedModelError: at the end, where no layer had any.
    """
    seen: list[tuple[Tensor, Tensor]] = []
    now: dict[Any, Tensor] = {}

    def see_edges(layer: Any, inputs: tuple[Any, ...]) -> None:
        now[layer] = require_edges(inputs[0])

    def see_weights(layer: Any, inputs: tuple[Any, ...], _message: Tensor) -> None:
        weights = inputs[0].get("alpha", getattr(layer, "_alpha", None))
        if isinstance(weights, Tensor) and len(weights) == now[layer].shape[1]:
            seen.append((now[layer], weights.detach()))

    with ExitStack() as hooks:
        for layer in message_layers(model.network):
            for handle in (
                layer.register_propagate_forward_pre_hook(see_edges),
                layer.register_message_forward_hook(see_weights),
            ):
                hooks.callback(handle.remove)
        yield seen
    if not seen:
        raise UnsupportedModelError(
            "No layer of the network has attention over edges, as GATConv has; take"
            " gradient_x_input or gnn_explainer."
        )

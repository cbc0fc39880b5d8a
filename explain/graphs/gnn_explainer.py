# SPDX-License-Identifier: Apache-2.0
"""GNNExplainer: the small, decided mask of units that keeps the class.

    minimise over m:  - log p(target | gates * s) + size * sum(s) + entropy * mean(H(s))
    with s = sigmoid(m),  H(s) = - s log s - (1 - s) log(1 - s)

by Adam, from small random numbers that belong to the item. The map is s at the end;
units that the class does not depend on at the first step are 0 and in no term.

Source: Ying et al. 2019, "GNNExplainer: Generating Explanations for Graph Neural
Networks", equation 5, with the regularisation of its section 4.2. The features' mask of
that section is left out: units are edges or nodes.
"""

import math

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import UnsupportedModelError
from explain.frozen import frozen
from explain.graphs.gated import GraphNetwork
from explain.methods.input_forward import (
    as_columns,
    like_targets,
    plain_forward,
    spoiled,
)
from explain.methods.method import Attribution

#: Keeps the logarithm of a mask that has closed finite.
_TINY = 1e-15


class GnnExplainer:
    """GNNExplainer of one network behind gates."""

    name = "gnn_explainer"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        steps: int = 100,
        rate: float = 0.01,
        size: float = 0.005,
        entropy: float = 1.0,
    ) -> None:
        """Take the network and the weights of the terms."""
        if not isinstance(model, GraphNetwork):
            raise UnsupportedModelError(
                "Method 'gnn_explainer' explains graphs; take another for items of"
                " another kind."
            )
        self._model = model
        self._steps = steps
        self._rate = rate
        self._size = size
        self._entropy = entropy

    @property
    def passes(self) -> float:
        """A forward and a backward pass a step, and the first forward pass."""
        return 1.0 + 3.0 * self._steps

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the masks, each target's fitted from the same start.

        Shape: inputs (N, 1, 1, w), targets (N,) or (N, T) int64 -> maps (N, 1, w).

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the class scores do not depend on the gates.
        """
        draws = ItemContext.of(inputs, context).draws
        with frozen(self._model):
            logits, classes = plain_forward(self._model, inputs, targets)
            found = [
                torch.stack(
                    [
                        self._mask(place, inputs[place, 0, 0], int(target), draws)
                        for target in row
                    ]
                )
                for place, row in enumerate(as_columns(classes))
            ]
        masks = torch.stack(found)[:, :, None]
        logits = logits.float()
        blank = (masks == 0).all(dim=3).all(dim=2)
        return Attribution(
            logits=logits,
            targets=classes,
            maps=like_targets(spoiled(masks, logits, classes), classes),
            zero_gradient=like_targets(blank, classes),
        )

    def _mask(self, place: int, gates: Tensor, target: int, draws: ItemDraws) -> Tensor:
        """Return one item's fitted mask, zero behind its units, (w,)."""
        units = self._model.units[place][1]
        with torch.inference_mode(mode=False), torch.enable_grad():
            gates = gates.clone() if gates.is_inference() else gates.detach()
            mask = self._start(place, draws).to(gates.device).requires_grad_()
            fitter = torch.optim.Adam([mask], lr=self._rate)
            used: Tensor | None = None
            for _step in range(self._steps):
                fitter.zero_grad()
                seen = gates[:units] * mask.sigmoid()
                logits = self._model.logits(place, seen[None])
                loss = -logits[0].log_softmax(dim=0)[target]
                if used is not None:
                    loss = loss + self._terms(mask[used])
                gradient = _gradient(loss, mask)
                if used is None:
                    used = gradient != 0
                    if not bool(used.any()):
                        break
                mask.grad = gradient
                fitter.step()
        result = torch.zeros(self._model.field[1], device=gates.device)
        if used is not None:
            result[:units] = torch.where(used, mask.detach().sigmoid(), 0.0)
        return result

    def _terms(self, mask: Tensor) -> Tensor:
        """Return what the mask costs beside the class."""
        open_part = mask.sigmoid()
        closed = 1 - open_part
        decided = -open_part * torch.log(open_part + _TINY) - closed * torch.log(
            closed + _TINY
        )
        cost: Tensor = self._size * open_part.sum() + self._entropy * decided.mean()
        return cost

    def _start(self, place: int, draws: ItemDraws) -> Tensor:
        """Return the mask to start from: the smaller, the more nodes there are."""
        graph = self._model.graphs[place]
        own = ItemDraws(draws.seed, (draws.indices[place],), draws.stream)
        spread = math.sqrt(2.0) * math.sqrt(1.0 / graph.nodes)
        return own.normal(0, (graph.units[1],))[0] * spread


def _gradient(loss: Tensor, mask: Tensor) -> Tensor:
    """Return d loss / d mask.

    Raises:
        UnsupportedModelError: there is none.
    """
    found = None
    if loss.requires_grad:
        (found,) = torch.autograd.grad(loss, [mask], allow_unused=True)
    if found is None:
        raise UnsupportedModelError(
            "The class scores do not depend on the graph's edges or nodes, or the"
            " network cuts gradients off."
        )
    return found

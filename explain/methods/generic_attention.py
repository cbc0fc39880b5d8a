# SPDX-License-Identifier: Apache-2.0
"""Generic attention explainability: attention weighted by its own gradient.

    A_l = mean over heads of ReLU(dy/dA x A), of the weights A of block l
    R = I;  for each block:  R <- R + A_l R
    map = the rows of the tokens that the head reads, without the tokens before places

Source: Chefer, Gur and Wolf 2021, "Generic Attention-model Explainability for
Interpreting Bi-Modal and Encoder-Decoder Transformers", ICCV, equations 5 and 6.
"""

import torch
from torch import Tensor, nn

from explain.architectures.attention import TappedAttention
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.attention_forward import (
    AttentionForward,
    as_grid,
    attention_forward,
    read_rows,
)
from explain.methods.input_forward import as_columns, like_targets, spoiled
from explain.methods.method import Attribution, chosen_targets


class GenericAttention:
    """Generic attention explainability of one transformer."""

    name = "generic_attention"

    def __init__(self, model: nn.Module, layer: TappedAttention) -> None:
        self._model = model
        self._layer = layer

    @property
    def passes(self) -> float:
        """A forward and a backward pass without weights, and the weights again."""
        return 2.4

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the relevance of each place for each item's target.

        Costs a forward and a backward pass down to the first attention, a backward
        pass more for each further target.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the attention is not that which was resolved, or no score
                depends on it.
        """
        with frozen(self._model):
            forward = attention_forward(self._model, self._layer, inputs, graph=True)
            classes = chosen_targets(forward.logits, targets)
            maps, blank = [], []
            columns = as_columns(classes).unbind(dim=1)
            for number, column in enumerate(columns, start=1):
                slopes = forward.slopes(column, last=number == len(columns))
                with torch.no_grad():
                    maps.append(self._map(forward, slopes).float())
                    flat = [slope.reshape(len(inputs), -1) for slope in slopes]
                    zero = [(each == 0).all(dim=1) for each in flat]
                    blank.append(torch.stack(zero).all(dim=0))
        logits = forward.logits.detach().float()
        stacked = spoiled(torch.stack(maps, dim=1), logits, classes)
        return Attribution(
            logits=logits,
            targets=classes,
            maps=like_targets(stacked, classes),
            zero_gradient=like_targets(torch.stack(blank, dim=1), classes),
        )

    def _map(self, forward: AttentionForward, slopes: tuple[Tensor, ...]) -> Tensor:
        """Return the relevance of the places, from the last block to the first.

        Only the rows that the head reads are carried along, which is the same.
        """
        row: Tensor | None = None
        for block in reversed(range(len(slopes))):
            weighted = relevance(
                forward.weights(block), forward.gradient(block, slopes[block])
            )
            if row is None:
                row = read_rows(self._layer, weighted)
                start = row
            row = row + row @ weighted
        if row is None:
            raise AssertionError("no attention was resolved")
        # The identity that the relevance starts with says nothing of the places.
        return as_grid(self._layer, row - start)


def relevance(weights: Tensor, gradient: Tensor) -> Tensor:
    """Return mean over heads of ReLU(gradient x weights); overwrites the gradient.

    Shape: (N, H, L, L) each -> (N, L, L).
    """
    return gradient.mul_(weights).relu_().mean(dim=1)

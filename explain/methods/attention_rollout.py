# SPDX-License-Identifier: Apache-2.0
"""Attention rollout: how much of each place reaches what the head reads.

    A_l = mean over heads of the attention weights of block l
    rollout = (A_L / 2 + I / 2) ... (A_1 / 2 + I / 2)
    map = the rows of the tokens that the head reads

Rows of the rollout sum to 1. Only those that the head reads are computed: a row times
a matrix a block, not a matrix times a matrix.

Source: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section
3, equation 1.
"""

import torch
from torch import Tensor, nn

from explain.architectures.attention import TappedAttention
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.attention_forward import as_grid, attention_forward, read_rows
from explain.methods.input_forward import as_columns, like_targets, spoiled
from explain.methods.method import Attribution, chosen_targets


class AttentionRollout:
    """Attention rollout of one transformer."""

    name = "attention_rollout"

    def __init__(self, model: nn.Module, layer: TappedAttention) -> None:
        self._model = model
        self._layer = layer

    @property
    def passes(self) -> float:
        """One forward pass, and the weights made again."""
        return 1.3

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the rollout of each item, the same for every class.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the attention is not that which was resolved.
        """
        with frozen(self._model):
            forward = attention_forward(self._model, self._layer, inputs, graph=False)
        classes = chosen_targets(forward.logits, targets)
        with torch.no_grad():
            means = [
                forward.weights(block)[:, 0]  # the mean over heads
                for block in range(len(forward.calls))
            ]
            maps = as_grid(self._layer, rolled(read_rows(self._layer, means[0]), means))
            logits = forward.logits.float()
            columns = as_columns(classes)
            stacked = maps.float()[:, None].expand(-1, columns.shape[1], -1, -1)
            return Attribution(
                logits=logits,
                targets=classes,
                maps=like_targets(spoiled(stacked, logits, classes), classes),
                zero_gradient=torch.zeros_like(classes, dtype=torch.bool),
            )


def rolled(rows: Tensor, attentions: list[Tensor]) -> Tensor:
    """Return rows times the rollout of the blocks' attention, the first block first.

    Shape: rows (N, R, L), each attention (N, L, L) -> (N, R, L).
    """
    for attention in reversed(attentions):
        rows = (rows + rows @ attention) / 2
    return rows

# SPDX-License-Identifier: Apache-2.0
"""Attention rollout of texts: how much of each word reaches what the head reads.

    A_l = mean over heads of the attention weights of block l
    rollout = (A_L / 2 + I / 2) ... (A_1 / 2 + I / 2)
    map = mean of the rows of the tokens that the head reads, summed over the tokens of
          each word

Special tokens have no place in the map, though much attention may end in them.

Source: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section
3, equation 1.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.attention_rollout import rolled
from explain.methods.method import Attribution, chosen_targets
from explain.text.attention import PassAttention, attention_pass
from explain.text.attributions import of_words, required
from explain.text.network import TextNetwork


class TextRollout:
    """Attention rollout of one network of texts."""

    name = "text_rollout"
    #: A forward pass, the weights made again, and a step back to the last block.
    passes = 1.5

    def __init__(self, model: nn.Module, layer: TappedLayer | None = None) -> None:  # noqa: ARG002 - every method is built alike
        self._model: TextNetwork = required(model)

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the rollout of each text, the same for every class.

        Shape: inputs are gates (N, 1, 1, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the network computes no attention among tokens.
            ZeroGradientLayerError: no class score depends on the attention.
        """
        logits, maps = [], []
        with frozen(self._model):
            for rows in self._model.passes(inputs):
                seen = attention_pass(self._model, rows, inputs, end=True)
                logits.append(seen.logits.detach()[: rows.used])
                maps.append(self._map(seen))
            whole = self._model.averaged(torch.cat(logits), len(inputs))
            rolled_out = self._model.averaged(torch.cat(maps), len(inputs))
        classes = chosen_targets(whole, targets)
        columns = 1 if classes.ndim == 1 else classes.shape[1]
        blank = torch.zeros((len(inputs), columns), dtype=torch.bool)
        return of_words(
            whole,
            classes,
            rolled_out[:, None].expand(-1, columns, -1),
            blank.to(inputs.device),
        )

    def _map(self, seen: PassAttention) -> Tensor:
        """Return the rollout of the words of the rows that count, (used, W)."""
        # Any score of all logits shows what is read; equal weights could cancel out.
        weights = torch.linspace(0.5, 1.5, seen.logits.shape[1])
        score = (seen.logits @ weights.to(seen.logits)).sum()
        start = seen.readers(seen.slopes(score, end=True)[0])
        means = [seen.weights(block).mean(dim=1) for block in range(len(seen.calls))]
        return seen.word_map(rolled(start, means)[:, 0], self._model.field[1])

# SPDX-License-Identifier: Apache-2.0
"""Generic attention explainability of texts: attention weighted by its gradient.

    A_l = mean over heads of ReLU(dy/dA x A), of the weights A of block l
    R = I;  for each block:  R <- R + A_l R
    map = mean of the rows of R - I of the tokens that the head reads, summed over the
          tokens of each word

Source: Chefer, Gur and Wolf 2021, "Generic Attention-model Explainability for
Interpreting Bi-Modal and Encoder-Decoder Transformers", ICCV, equations 5 and 6.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.generic_attention import relevance
from explain.methods.input_forward import as_columns
from explain.methods.method import Attribution, chosen_targets
from explain.text.attention import PassAttention, attention_pass
from explain.text.attributions import of_words, required
from explain.text.network import TextNetwork


class TextGenericAttention:
    """Generic attention explainability of one network of texts."""

    name = "text_generic_attention"
    #: A forward and a backward pass without weights, and the weights made again.
    passes = 2.5

    def __init__(self, model: nn.Module, layer: TappedLayer | None = None) -> None:  # noqa: ARG002 - every method is built alike
        self._model: TextNetwork = required(model)

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the relevance of each word for each text's target.

        Costs a forward and a backward pass down to the first attention, a backward
        pass more for each further target. A text in several windows has the mean of
        their maps.

        Shape: inputs are gates (N, 1, 1, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the network computes no attention among tokens.
            ZeroGradientLayerError: no class score depends on the attention.
        """
        model = self._model
        with frozen(model):
            seen = [
                attention_pass(model, rows, inputs) for rows in model.passes(inputs)
            ]
            logits = torch.cat([one.logits.detach()[: one.rows.used] for one in seen])
            whole = model.averaged(logits, len(inputs))
            classes = chosen_targets(whole, targets)
            maps, live = [], []
            columns = as_columns(classes).unbind(dim=1)
            for number, column in enumerate(columns, start=1):
                found = [
                    self._map(one, column, last=number == len(columns)) for one in seen
                ]
                relevant = torch.cat([each for each, _moved in found])
                moved = torch.cat([moved for _each, moved in found])
                maps.append(model.averaged(relevant, len(inputs)))
                live.append(model.averaged(moved.float(), len(inputs)) > 0)
        return of_words(
            whole, classes, torch.stack(maps, dim=1), ~torch.stack(live, dim=1)
        )

    def _map(
        self, seen: PassAttention, classes: Tensor, *, last: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the words' relevance, and which rows have any gradient.

        Only the rows that the head reads are carried from the last block to the
        first, which is the same as the whole product.

        Shape: (used, W), (used,) bool.
        """
        used = seen.rows.used
        of_rows = classes[seen.rows.gates]
        with torch.inference_mode(mode=False), torch.enable_grad():
            score = seen.logits.gather(1, of_rows[:, None].clone())[:used].sum()
            slopes = seen.slopes(score, last=last)
        with torch.no_grad():
            start = row = seen.readers(slopes[-1])
            for block in reversed(range(len(slopes))):
                gradient = seen.gradient(block, slopes[block])
                row = row + row @ relevance(seen.weights(block), gradient)
            # The identity that the relevance starts with says nothing of the words.
            relevant = seen.word_map((row - start)[:, 0], self._model.field[1])
            flat = [slope.reshape(len(seen.logits), -1) for slope in slopes]
            moved = torch.stack([(each != 0).any(dim=1) for each in flat]).any(dim=0)
        return relevant, moved[:used]

# SPDX-License-Identifier: Apache-2.0
"""Occlusion of long texts from coarse to fine: sentences first, then their words.

    f[s] = p(text) - p(text without sentence s)
    S = the fewest sentences that make up a share of the positive f, the largest first
    map[w] = p(text) - p(text without word w) where w lies in S, else 0

A text of 40 sentences of 25 words then costs 40 forward passes and 25 for each kept
sentence, not 1000. This is the remedy of long inputs of the paper that this product
grew out of (section 9, hierarchical thresholding); the falls are those of occlusion.

Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional
Networks", section 4.2, for the falls.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.chunking import per_pass
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.input_forward import as_columns
from explain.methods.method import Attribution, chosen_targets
from explain.methods.perturbed_scores import perturbed_scores, probability
from explain.text.attributions import of_words, required
from explain.text.network import TextNetwork


class TextHierarchy:
    """Occlusion of sentences, then of the words in those that matter."""

    name = "text_hierarchy"
    #: Of a text of five sentences of 20 words, of which two are kept.
    passes = 46.0

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        share: float = 0.8,
    ) -> None:
        self._model: TextNetwork = required(model)
        self._share = share

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return each word's fall of the target's softmax probability.

        Shape: inputs are gates (N, 1, 1, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
        """
        given = ItemContext.of(inputs, context)
        with frozen(self._model), torch.no_grad():
            logits = self._model(inputs)
            classes = chosen_targets(logits, targets)
            columns = as_columns(classes)
            maps = inputs.new_zeros(*columns.shape, self._model.field[1])
            blank = torch.ones_like(columns, dtype=torch.bool)
            halved = False
            for item, text in enumerate(self._model.texts):
                words = text.units[1]
                one = _Text(
                    self._model.only(item),
                    inputs[item : item + 1, :, :, :words],
                    columns[item : item + 1],
                    per_pass(1, given.chunk),
                )
                maps[item, :, :words], moved = one.explained(self._share)
                blank[item] = ~moved
                halved = halved or one.halved
        return of_words(logits, classes, maps, blank, halved=halved)


class _Text:
    """One text, asked again and again."""

    def __init__(
        self, model: TextNetwork, gates: Tensor, classes: Tensor, size: int
    ) -> None:
        self._model = model
        self._gates = gates
        self._classes = classes
        self._size = size
        self._whole = probability(model(gates)[:, None], classes)[0, 0]
        self.halved = False

    def explained(self, share: float) -> tuple[Tensor, Tensor]:
        """Return the map of each target, and whether anything moved its score.

        Shape: (T, W), (T,) bool.
        """
        sentences = torch.from_numpy(self._model.texts[0].sentences)
        sentences = sentences.to(self._gates.device)
        count = int(sentences.max()) + 1
        number = torch.arange(count, device=sentences.device)
        falls = self._falls(sentences[None] == number[:, None])
        kept = largest_share(falls, share)
        inside = kept[:, sentences]
        words = inside.any(dim=0).nonzero().flatten()
        place = torch.arange(len(sentences), device=sentences.device)
        fine = self._falls(place[None] == words[:, None])
        maps = torch.zeros_like(inside, dtype=fine.dtype)
        maps[:, words] = fine
        maps = torch.where(inside, maps, 0.0)
        moved = (falls != 0).any(dim=1) & (maps != 0).any(dim=1)
        return maps.float(), moved

    def _falls(self, covered: Tensor) -> Tensor:
        """Return the fall of each target's score when some words are covered.

        Shape: covered (P, W) bool -> (T, P) float64.
        """

        def make(start: int, stop: int) -> Tensor:
            mask = covered[None, start:stop, None, None]
            return torch.where(mask, 0.0, self._gates[:, None])

        scores, halved = perturbed_scores(
            self._model, self._classes, len(covered), self._size, make, probability
        )
        self.halved = self.halved or halved
        return (self._whole - scores[0]).T


def largest_share(falls: Tensor, share: float) -> Tensor:
    """Return which are the fewest that make up a share of the positive ones' sum.

    One at least: the largest, also where none is positive. Of equals the first goes in.

    Shape: (T, S) -> (T, S) bool.
    """
    order = torch.argsort(falls, dim=1, descending=True, stable=True)
    ranked = falls.clamp(min=0).gather(1, order)
    before = ranked.cumsum(dim=1) - ranked
    enough = before < share * ranked.sum(dim=1, keepdim=True)
    enough &= ranked > 0
    enough[:, 0] = True
    return torch.zeros_like(enough).scatter_(1, order, enough)

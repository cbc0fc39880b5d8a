# SPDX-License-Identifier: Apache-2.0
"""Occlusion of long sequences in two levels: segments, then steps of the best ones.

    d_s    = p(x) - p(x with segment s at its baseline)
    e_t    = p(x) - p(x with step t at its baseline)        of the refined segments
    r_t    = max(0, sign(d_s) e_t)                          of the refined segments
    map[t] = d_s * r_t / sum over the segment of r          there
    map[t] = d_s / steps of the segment                     elsewhere

Occluding T steps one by one takes T passes; this takes T / segment and, for each
segment that is refined, segment more. A segment's share of the score is what its steps
have between them, so that steps of all segments can be ranked together.

Source: Li 2025, "A Lightweight Explainability Framework for Neural Networks",
limitations (long sequences by chunk and hierarchically); occlusion: Zeiler and Fergus
2014, "Visualizing and Understanding Convolutional Networks", section 4.2.
"""

import math

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.chunking import per_pass
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.input_forward import as_columns, plain_forward
from explain.methods.method import Attribution
from explain.methods.perturbed_scores import (
    MakePerturbed,
    perturbation_attribution,
    perturbed_scores,
    probability,
    unmoved,
)
from explain.sequences.hidden_state import require_steps


class HierarchicalOcclusion:
    """Occlusion by segments and steps of one network of sequences."""

    name = "hierarchical_occlusion"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        segment: int = 0,
        refine: float = 0.25,
    ) -> None:
        self._model = require_steps(self.name, model)
        self._segment = segment
        self._refine = refine

    @property
    def passes(self) -> float:
        """A pass a segment, one a step of those that are refined, and one."""
        steps = self._model.field[1]
        size, segments, refined = self._cut(steps)
        return 1.0 + segments + refined * size

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return each step's share of the fall of the target's softmax probability.

        Shape: inputs (N, 1, 1, T) gates, targets (N,) or (N, T') int64 -> maps
        (N, 1, T).

        Raises:
            InvalidTargetError: a target class the network does not have.
        """
        given = ItemContext.of(inputs, context)
        with frozen(self._model), torch.no_grad():
            logits, classes = plain_forward(self._model, inputs, targets)
            columns = as_columns(classes)
            size, segments, refined = self._cut(inputs.shape[3])
            whole = probability(logits[:, None], columns)[:, 0]
            chunk = per_pass(len(inputs), given.chunk)

            def falls(starts: Tensor, width: int) -> tuple[Tensor, Tensor, bool]:
                """Return falls of the windows that begin there, (N, P, T'), scores."""
                scores, halved = perturbed_scores(
                    self._model,
                    classes,
                    starts.shape[1],
                    chunk,
                    _closed(inputs, starts, width),
                    probability,
                )
                return whole[:, None] - scores, scores, halved

            firsts = torch.arange(segments, device=inputs.device) * size
            coarse, scores, halved = falls(firsts.expand(len(inputs), -1), size)
            maps = []
            for target in range(columns.shape[1]):
                fall = coarse[:, :, target]
                order = fall.sort(dim=1, descending=True, stable=True).indices
                best = order[:, :refined]
                inner = torch.arange(size, device=inputs.device)
                starts = (best[:, :, None] * size + inner).flatten(1)
                fine, _, more = falls(starts, 1)
                halved |= more
                maps.append(_shared(fall, fine[:, :, target], best, size, inputs))
            blank = unmoved(scores, whole, inputs)
        return perturbation_attribution(
            logits, classes, torch.stack(maps, dim=1), blank, halved=halved
        )

    def _cut(self, steps: int) -> tuple[int, int, int]:
        """Return a segment's steps, how many there are, and how many are refined."""
        size = min(steps, self._segment or max(1, round(math.sqrt(steps))))
        segments = math.ceil(steps / size)
        return size, segments, max(1, math.ceil(self._refine * segments - 1e-9))


def _closed(inputs: Tensor, starts: Tensor, width: int) -> MakePerturbed:
    """Return what closes the gates of a range of windows, each row its own."""
    steps = torch.arange(inputs.shape[3], device=inputs.device)

    def make(start: int, stop: int) -> Tensor:
        first = starts[:, start:stop, None]
        closed = (steps >= first) & (steps < first + width)
        return torch.where(closed[:, :, None, None, :], 0, inputs[:, None])

    return make


def _shared(
    coarse: Tensor, fine: Tensor, best: Tensor, size: int, inputs: Tensor
) -> Tensor:
    """Return one target's maps: each segment's fall shared out among its steps.

    Shape: coarse (N, S), fine (N, R size), best (N, R) -> (N, 1, T) float64.
    """
    items, segments = coarse.shape
    steps = inputs.shape[3]
    # The last segment may have fewer steps; places behind the end have no share.
    inside = torch.zeros(segments * size, dtype=torch.float64, device=coarse.device)
    inside[:steps] = 1
    even = inside.view(segments, size)
    weights = (even / even.sum(dim=1, keepdim=True)).repeat(items, 1, 1)
    rows = torch.arange(items, device=coarse.device)[:, None]
    sign = coarse[rows, best].sign()[:, :, None]
    towards = (fine.view(items, -1, size) * sign).clamp(min=0) * even[best]
    total = towards.sum(dim=2, keepdim=True)
    own = torch.where(total > 0, towards / total, weights[rows, best])
    weights[rows, best] = own
    shares = (coarse[:, :, None] * weights).flatten(1)[:, :steps]
    return shares[:, None]

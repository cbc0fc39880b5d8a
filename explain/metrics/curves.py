# SPDX-License-Identifier: Apache-2.0
"""Deletion, insertion, pixel flipping: the score as ranked pixels go, or come back.

    deletion:  f -> p(target | x without its top fraction f)
    insertion: f -> p(target | baseline with the top fraction f of x)
    flipping:  mean over k = 0 .. L of p(target | x) - p(target | x without the first
               k / L of a fraction)

Sources: Petsiuk, Das and Saenko 2018, "RISE: Randomized Input Sampling for
Explanation of Black-box Models", section 4.2; Bach et al. 2015, "On Pixel-Wise
Explanations", section 4; Samek et al. 2017, "Evaluating the Visualization of What a
Deep Neural Network Has Learned", equation 12.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explain.errors import InvalidParameterError
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.removal import Removal


@dataclass(frozen=True, slots=True)
class Deletion:
    """Area under the score while the most important pixels are removed first."""

    steps: int = 20
    baseline: str = "zero"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "deletion"

    def __post_init__(self) -> None:
        _require_steps(self.steps)

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``deletion_auc``; steps forward passes, the last one shared."""
        inner = removed_scores(batch, step_counts(batch, self.steps), self.baseline)
        nothing = Removal.of(batch, self.baseline).nothing_scores()
        curve = torch.cat([batch.full_scores()[None], inner, nothing[None]])
        return {"deletion_auc": _area(batch, curve)}


@dataclass(frozen=True, slots=True)
class Insertion:
    """Area under the score while the most important pixels come back first."""

    steps: int = 20
    baseline: str = "zero"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "insertion"

    def __post_init__(self) -> None:
        _require_steps(self.steps)

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``insertion_auc``; steps forward passes, the first one shared."""
        counts = _as_ranks(batch, step_counts(batch, self.steps))
        removal = Removal.of(batch, self.baseline)

        def make(start: int, stop: int) -> Tensor:
            return removal.keep_only(batch.ranks < counts[start:stop, None, None, None])

        inner = batch.scores(len(counts), make)
        nothing = removal.nothing_scores()
        curve = torch.cat([nothing[None], inner, batch.full_scores()[None]])
        return {"insertion_auc": _area(batch, curve)}


@dataclass(frozen=True, slots=True)
class PixelFlipping:
    """Mean drop of the score while the first fraction of pixels is removed."""

    steps: int = 20
    fraction: float = 0.2
    baseline: str = "zero"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "pixel_flipping"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``pixel_flipping_aopc``; steps forward passes."""
        pixels = batch.maps[0].numel()
        counts = [
            int(step * self.fraction * pixels / self.steps + 0.5)
            for step in range(1, self.steps + 1)
        ]
        curve = removed_scores(batch, counts, self.baseline)
        # The point without a removal counts as well, with a drop of 0.
        drop = (batch.full_scores() - curve).sum(dim=0) / (self.steps + 1)
        return {"pixel_flipping_aopc": column(drop, batch.unusable)}


def removed_scores(
    batch: MetricBatch, counts: Sequence[int], baseline: str, kind: str = "probability"
) -> Tensor:
    """Return the score without each count of the highest-ranked pixels.

    Shape: K counts -> (K, N) float64.
    """
    removal = Removal.of(batch, baseline)
    gone = _as_ranks(batch, counts)

    def make(start: int, stop: int) -> Tensor:
        return removal.keep_only(batch.ranks >= gone[start:stop, None, None, None])

    return batch.scores(len(counts), make, kind)


def step_counts(batch: MetricBatch, steps: int) -> list[int]:
    """Return how many pixels are moved at each inner step, halves rounded up."""
    pixels = batch.maps[0].numel()
    return [(2 * step * pixels + steps) // (2 * steps) for step in range(1, steps)]


def _as_ranks(batch: MetricBatch, counts: Sequence[int]) -> Tensor:
    """Return the counts as what ranks are compared with, (K,)."""
    ranks = batch.ranks
    return torch.tensor(counts, device=ranks.device, dtype=ranks.dtype)


def _area(batch: MetricBatch, curve: Tensor) -> MetricColumn:
    """Return the trapezoid area over the fraction 0 .. 1, absent without a ranking.

    Shape: curve (steps + 1, N) float64.
    """
    steps = len(curve) - 1
    area = (curve.sum(dim=0) - (curve[0] + curve[-1]) / 2) / steps
    return column(area, batch.unusable)


def _require_steps(steps: int) -> None:
    """Refuse a curve without a line."""
    if steps < 1:
        raise InvalidParameterError(f"Expected at least one step, got {steps}.")

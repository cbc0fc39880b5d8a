# SPDX-License-Identifier: Apache-2.0
"""Deletion and insertion: the score as ranked pixels go, or come back.

    deletion:  f -> p(target | x without its top fraction f)
    insertion: f -> p(target | baseline with the top fraction f of x)

Source: Petsiuk, Das and Saenko 2018, "RISE: Randomized Input Sampling for
Explanation of Black-box Models", section 4.2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.errors import InvalidParameterError
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column


@dataclass(frozen=True, slots=True)
class Deletion:
    """Area under the score while the most important pixels are removed first."""

    steps: int = 20

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "deletion"

    def __post_init__(self) -> None:
        _require_steps(self.steps)

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``deletion_auc``; steps forward passes, the last one shared."""
        inner = [
            batch.score(batch.keep_only(batch.ranks >= count))
            for count in _counts(batch, self.steps)
        ]
        curve = torch.stack([batch.full_scores, *inner, batch.baseline_scores])
        return {"deletion_auc": _area(batch, curve)}


@dataclass(frozen=True, slots=True)
class Insertion:
    """Area under the score while the most important pixels come back first."""

    steps: int = 20

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "insertion"

    def __post_init__(self) -> None:
        _require_steps(self.steps)

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``insertion_auc``; steps forward passes, the first one shared."""
        inner = [
            batch.score(batch.keep_only(batch.ranks < count))
            for count in _counts(batch, self.steps)
        ]
        curve = torch.stack([batch.baseline_scores, *inner, batch.full_scores])
        return {"insertion_auc": _area(batch, curve)}


def _counts(batch: MetricBatch, steps: int) -> list[int]:
    """Return how many pixels are moved at each inner step, halves rounded up."""
    pixels = batch.maps[0].numel()
    return [(2 * step * pixels + steps) // (2 * steps) for step in range(1, steps)]


def _area(batch: MetricBatch, curve: Tensor) -> MetricColumn:
    """Return the trapezoid area over the fraction 0 .. 1, absent without a ranking.

    Shape: curve (steps + 1, N) float64.
    """
    steps = len(curve) - 1
    area = (curve.sum(dim=0) - (curve[0] + curve[-1]) / 2) / steps
    return column(
        area,
        [
            (AbsenceReason.INVALID_ITEM, batch.invalid),
            (AbsenceReason.NON_FINITE, batch.non_finite_map),
            (AbsenceReason.CONSTANT_MAP, batch.constant_map),
        ],
    )


def _require_steps(steps: int) -> None:
    """Refuse a curve without a line."""
    if steps < 1:
        raise InvalidParameterError(f"Expected at least one step, got {steps}.")

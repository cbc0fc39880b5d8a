# SPDX-License-Identifier: Apache-2.0
"""Precision over all cuts of the map, pixel by pixel.

Sources: average precision as scikit-learn defines it; Choe et al. 2020, "Evaluating
Weakly Supervised Object Localization Methods Right", equation 4 (PxAP).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.truth import truth_of, without_truth
from explain.thresholds.sweep import sweep_fractions


class AveragePrecision:
    """Precision summed over the steps of recall, every distinct value a cut."""

    name = "average_precision"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``average_precision``."""
        swept = sweep_fractions(batch.maps, truth_of(batch), (1.0,))
        value = swept.average_precision()
        return {"average_precision": column(value, without_truth(batch))}


@dataclass(frozen=True, slots=True)
class PxAp:
    """The same at evenly spaced thresholds of the map scaled to 0 .. 1."""

    thresholds: int = 1000

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "pxap"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``pxap``."""
        truth = truth_of(batch)
        counted = threshold_counts(batch.maps, truth, self.thresholds)
        value = precision_area(*counted)
        return {"pxap": column(value, without_truth(batch))}


def scaled(maps: Tensor) -> Tensor:
    """Return each map with its least value at 0 and its greatest at 1.

    A constant map gives NaN.

    Shape: (N, H, W) -> the same, float64.
    """
    flat = maps.flatten(1).double()
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    return ((flat - low) / (high - low)).view(maps.shape)


def threshold_counts(
    maps: Tensor, truth: Tensor, thresholds: int
) -> tuple[Tensor, Tensor]:
    """Return how many positions reach each threshold, and how many of them are true.

    One histogram a map, summed from above: thresholds 1, (T - 1) / T, .. 0. Counts of
    several items can be added up before precision is taken, as the paper does.

    Shape: maps, truth (N, H, W) -> two of (N, thresholds + 1) float64.
    """
    places = (scaled(maps).flatten(1) * thresholds).nan_to_num(0.0).floor().long()
    marks = truth.flatten(1).double()
    reached = marks.new_zeros(len(marks), thresholds + 1)
    true = torch.zeros_like(reached)
    reached.scatter_add_(1, places, torch.ones_like(marks))
    true.scatter_add_(1, places, marks)
    return reached.flip(1).cumsum(dim=1), true.flip(1).cumsum(dim=1)


def precision_area(reached: Tensor, true: Tensor) -> Tensor:
    """Return the sum of precision times the step in recall, (N,) float64."""
    recall = true / true[:, -1:]
    steps = torch.diff(recall, dim=1, prepend=torch.zeros_like(recall[:, :1]))
    precision = true / reached.clamp(min=1)
    return (precision * steps).sum(dim=1)

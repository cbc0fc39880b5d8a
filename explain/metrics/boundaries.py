# SPDX-License-Identifier: Apache-2.0
"""Boundary F1: how closely the mask's outline follows that of the truth.

    P = share of the mask's boundary within r of the truth's, R = the reverse
    F1 = 2 P R / (P + R)

Source: Csurka, Larlus and Perronnin 2013, "What is a good evaluation measure for
semantic segmentation?", section 2.2.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.truth import truth_of, without_truth


@dataclass(frozen=True, slots=True)
class BoundaryF1:
    """F1 of boundary pixels within a tolerance."""

    tolerance: float = 0.0075

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "boundary_f1"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``boundary_f1``; no forward pass."""
        reach = self.tolerance * math.hypot(*batch.mask.shape[1:])
        mask, truth = boundary(batch.mask), boundary(truth_of(batch))
        precise = (mask & grown(truth, reach)).sum(dim=(1, 2)).double()
        recalled = (truth & grown(mask, reach)).sum(dim=(1, 2)).double()
        precision = precise / mask.sum(dim=(1, 2))
        recall = recalled / truth.sum(dim=(1, 2))
        value = 2 * precision * recall / (precision + recall)
        # Nothing near, or no mask at all: neither is 0 / 0.
        value = torch.where((precise == 0) | (recalled == 0), 0.0, value)
        return {"boundary_f1": column(value, without_truth(batch))}


def boundary(regions: Tensor) -> Tensor:
    """Return the pixels of a region with one of four neighbours outside it.

    Beyond the image is outside.

    Shape: (N, H, W) bool -> the same.
    """
    framed = pad(regions, (1, 1, 1, 1))
    inner = (
        framed[:, :-2, 1:-1]
        & framed[:, 2:, 1:-1]
        & framed[:, 1:-1, :-2]
        & framed[:, 1:-1, 2:]
    )
    return regions & ~inner


def grown(marks: Tensor, reach: float) -> Tensor:
    """Return the pixels within a Euclidean distance of a mark.

    A disc is as many rows, each a maximum over its own width.

    Shape: (N, H, W) bool -> the same.
    """
    height = marks.shape[1]
    values = marks.float()[:, None]
    found = torch.zeros_like(values)
    for away in range(-math.floor(reach), math.floor(reach) + 1):
        half = math.floor(math.sqrt(max(0.0, reach**2 - away**2)))
        wide = max_pool2d(values, (1, 2 * half + 1), stride=1, padding=(0, half))
        low, high = max(0, away), min(height, height + away)
        if low < high:
            moved = wide[:, :, low - away : high - away]
            torch.maximum(found[:, :, low:high], moved, out=found[:, :, low:high])
    return found[:, 0] > 0

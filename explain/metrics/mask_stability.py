# SPDX-License-Identifier: Apache-2.0
"""How much of a mask is still there when the input hardly changes.

With M the map, M' that of a nearby input, both as stored and upsampled, k the number
of positions that the policy kept, and m, m' the k highest positive positions of each:

    IoU = |m and m'| / |m or m'|     AP = average precision of M' against m
    r   = Pearson correlation of M and M'

each a mean over draws.

Sources: Jaccard 1912; average precision as scikit-learn defines it. The setting, noise
on the input and thresholds of a few percent, is that of Li 2025, "A Lightweight
Explainability Framework for Neural Networks", section 7.1 (stability metrics).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.maps import upsample
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.correlation import pearson
from explain.metrics.sensitivity import nearby_maps, require_draws
from explain.thresholds.sweep import sweep_fractions


@dataclass(frozen=True, slots=True)
class MaskStability:
    """Overlap, precision and correlation of maps of nearby inputs."""

    radius: float = 0.02
    samples: int = 10

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "mask_stability"

    def __post_init__(self) -> None:
        require_draws(self.radius, self.samples)

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return the three means; one explanation a sample, shared."""
        sizes = batch.mask.sum(dim=(1, 2))
        # As many of the map's own highest: a policy may have kept other positions.
        own = (batch.ranks < sizes[:, None, None]) & (batch.maps > 0)
        size = (own.shape[1], own.shape[2])
        draws = [
            _compared(batch.maps, upsample(native, size), own)
            for native in nearby_maps(batch, self.radius, self.samples)
        ]
        iou, precision, correlation = (
            torch.stack(values).mean(dim=0) for values in zip(*draws, strict=True)
        )
        empty = (AbsenceReason.EMPTY_MASK, ~own.flatten(1).any(dim=1))
        absent = [*batch.unusable, empty]
        # A nearby map that is the same everywhere correlates with nothing.
        still = (AbsenceReason.NO_VARIATION, correlation.isnan() & ~iou.isnan())
        return {
            "mask_stability_iou": column(iou, absent),
            "mask_stability_precision": column(precision, absent),
            "mask_stability_correlation": column(correlation, [*absent, still]),
        }


def _compared(maps: Tensor, others: Tensor, own: Tensor) -> tuple[Tensor, ...]:
    """Return IoU, average precision and correlation; NaN for a broken nearby map.

    Shape: maps, others (N, H, W), own (N, H, W) bool -> three of (N,) float64.
    """
    swept = sweep_fractions(others, own, (1.0,))
    sizes, marks, values = swept.truth_sizes, swept.marks, swept.values
    assert marks is not None  # noqa: S101 - the sweep was given a truth
    places = torch.arange(values.shape[1], device=values.device)
    kept = (places < sizes[:, None]) & (values > 0)
    both, union = (kept & marks).sum(dim=1), (kept | marks).sum(dim=1)
    broken = ~torch.isfinite(others.flatten(1)).all(dim=1)
    flat = ~broken & (values[:, 0] == values[:, -1])
    # One cut takes all of a map that is the same everywhere.
    share = sizes.double() / values.shape[1]
    precision = torch.where(flat, share, swept.average_precision())
    correlation = pearson(maps.flatten(1).T, others.flatten(1).T)
    return (
        (both.double() / union).masked_fill(broken, torch.nan),
        precision.masked_fill(broken, torch.nan),
        correlation.masked_fill(broken | flat, torch.nan),
    )

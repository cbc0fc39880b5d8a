# SPDX-License-Identifier: Apache-2.0
"""Energy retention: how much of the map its highest positions hold.

    r(k) = sum of the k highest positive values / sum of all positive values

The curve over k / positions is the mirrored Lorenz curve of the positive part.

Source: Lorenz 1905, "Methods of measuring the concentration of wealth".
"""

import torch

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.card import KEPT_PERCENTAGES
from explain.metrics.column import MetricColumn, column
from explain.numpy_maps import kept_count
from explain.ranking import descending_values


class Retention:
    """The share of positive energy over every keep-fraction, and its area."""

    name = "retention"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``retention_auc`` and ``retention_1`` and so on; no forward pass."""
        positive = descending_values(batch.maps.flatten(1)).clamp(min=0)
        held = positive.cumsum(dim=1, dtype=torch.float64)
        total = held[:, -1:]
        curve = held / total
        # The curve begins at 0 and ends at 1, both counted half.
        pixels = curve.shape[1]
        area = (curve.sum(dim=1) - 0.5) / pixels
        absent = [
            (AbsenceReason.INVALID_ITEM, batch.invalid),
            (AbsenceReason.NON_FINITE, batch.non_finite_map),
            (AbsenceReason.ZERO_ENERGY, total.squeeze(1) == 0),
            (AbsenceReason.CONSTANT_MAP, batch.constant_map),
        ]
        points = {
            f"retention_{percent}": curve[:, kept_count(percent / 100, pixels) - 1]
            for percent in KEPT_PERCENTAGES
        }
        return {
            key: column(value, absent)
            for key, value in {"retention_auc": area, **points}.items()
        }

# SPDX-License-Identifier: Apache-2.0
"""Completeness: how much of the attribution the mask holds, and whether it adds up.

    energy   = sum_{mask} max(a, 0) / sum max(a, 0)
    residual = | sum a - (f(x) - f(baseline)) |, absolute and relative

The residual exists for methods with a completeness axiom. It is taken over the map
as stored: pooling keeps the sum, rounding to float16 is part of what is measured.

Source: Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks",
section 3, for the axiom.
"""

import torch

from explain.maps import dequantise, energy_retained
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column


class Completeness:
    """The share of positive energy inside the mask, and the axiom's residual."""

    name = "completeness"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``completeness_energy``, and residuals where there is an axiom."""
        no_energy = batch.maps.flatten(1).amax(dim=1) <= 0
        energy = column(
            energy_retained(batch.maps, batch.mask),
            [
                (AbsenceReason.INVALID_ITEM, batch.invalid),
                (AbsenceReason.NON_FINITE, batch.non_finite_map),
                (AbsenceReason.ZERO_ENERGY, no_energy),
                (AbsenceReason.CONSTANT_MAP, batch.constant_map),
            ],
        )
        return {"completeness_energy": energy, **_residuals(batch)}


def _residuals(batch: MetricBatch) -> dict[str, MetricColumn]:
    """Return how far the stored maps are from summing to the output's change."""
    if batch.output_change is None:
        return {}
    change = batch.output_change.double()
    cells = dequantise(batch.stored).double().flatten(1)
    pixels_per_cell = batch.maps[0].numel() / cells.shape[1]
    residual = (cells.sum(dim=1) * pixels_per_cell - change).abs()
    absent = [
        (AbsenceReason.INVALID_ITEM, batch.invalid),
        (AbsenceReason.NON_FINITE, ~torch.isfinite(residual)),
    ]
    zero_change = (AbsenceReason.ZERO_CHANGE, change == 0)
    return {
        "completeness_residual": column(residual, absent),
        "completeness_residual_relative": column(
            residual / change.abs(), [*absent, zero_change]
        ),
    }

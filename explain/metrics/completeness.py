# SPDX-License-Identifier: Apache-2.0
"""Completeness: how much of the attribution the mask still holds.

    sum_{mask} max(a, 0) / sum max(a, 0)

Methods whose attributions must sum to the change of the output will add the
residual of that axiom (Sundararajan et al. 2017) under a key of its own.
"""

from explain.maps import energy_retained
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column


class Completeness:
    """The share of the map's positive energy inside the mask."""

    name = "completeness"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``completeness_energy``; no forward pass."""
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
        return {"completeness_energy": energy}

# SPDX-License-Identifier: Apache-2.0
"""Confidence retained: what the kept part alone convinces the model of.

    p(target | x where the mask keeps, baseline elsewhere) / p(target | x)

Source: Chattopadhay et al. 2018, "Grad-CAM++", section 4.1, where one minus this
ratio, clipped at zero, is the drop in confidence.
"""

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column


class ConfidenceRetained:
    """The score of the masked input relative to that of the whole input."""

    name = "confidence_retained"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``confidence_retained``; one forward pass."""
        kept = batch.score(batch.keep_only(batch.mask))
        empty = ~batch.mask.flatten(1).any(dim=1)
        retained = column(
            kept / batch.full_scores,
            [
                (AbsenceReason.INVALID_ITEM, batch.invalid),
                (AbsenceReason.NON_FINITE, batch.non_finite_map),
                (AbsenceReason.CONSTANT_MAP, batch.constant_map),
                (AbsenceReason.EMPTY_MASK, empty),
                (AbsenceReason.ZERO_PROBABILITY, batch.full_scores == 0),
            ],
        )
        return {"confidence_retained": retained}

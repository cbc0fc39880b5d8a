# SPDX-License-Identifier: Apache-2.0
"""Precision, recall and IoU of the mask of each keep-fraction.

One sort a map gives all of them; masks are those of the fixed policy, whatever policy
the run has.

Source: Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge", section
4.2 (precision and recall over a ranking); Jaccard 1912.
"""

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.card import KEPT_PERCENTAGES
from explain.metrics.column import MetricColumn, column
from explain.metrics.truth import truth_of, without_truth
from explain.thresholds.sweep import sweep_fractions


class ThresholdCurves:
    """The points of the precision-recall curve that fixed thresholds reach."""

    name = "threshold_curves"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``threshold_precision_1`` and so on; no forward pass."""
        fractions = tuple(percent / 100 for percent in KEPT_PERCENTAGES)
        swept = sweep_fractions(batch.maps, truth_of(batch), fractions)
        absent = without_truth(batch)
        # A map without a positive place keeps nothing, so has no precision.
        empty = (AbsenceReason.EMPTY_MASK, swept.kept[:, -1] == 0)
        found = {}
        for what, curve in (
            ("precision", swept.precision),
            ("recall", swept.recall),
            ("iou", swept.iou),
        ):
            reasons = [*absent, empty] if what == "precision" else absent
            for place, percent in enumerate(KEPT_PERCENTAGES):
                key = f"threshold_{what}_{percent}"
                found[key] = column(curve[:, place], reasons)
        return found

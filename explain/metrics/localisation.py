# SPDX-License-Identifier: Apache-2.0
"""Localisation: how the kept part overlaps what a person marked.

With M the mask and G the ground truth, per image:

    IoU = |M and G| / |M or G|      Dice = 2 |M and G| / (|M| + |G|)
    precision = |M and G| / |M|     recall = |M and G| / |G|

Source: Jaccard 1912; Dice 1945.
"""

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.truth import truth_of, without_truth


class Localisation:
    """Overlap of the mask with the ground truth."""

    name = "localisation"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return IoU, Dice, precision and recall; no forward pass."""
        mask = batch.mask.flatten(1)
        truth = truth_of(batch).flatten(1)
        both = (mask & truth).sum(dim=1).double()
        kept, marked = mask.sum(dim=1).double(), truth.sum(dim=1).double()
        absent = without_truth(batch)
        empty_mask = (AbsenceReason.EMPTY_MASK, kept == 0)
        return {
            "localisation_iou": column(both / (kept + marked - both), absent),
            "localisation_dice": column(2 * both / (kept + marked), absent),
            "localisation_precision": column(both / kept, [*absent, empty_mask]),
            "localisation_recall": column(both / marked, absent),
        }

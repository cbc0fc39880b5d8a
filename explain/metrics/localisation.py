# SPDX-License-Identifier: Apache-2.0
"""Localisation: how the kept part overlaps what a person marked.

With M the mask and G the ground truth, per image:

    IoU = |M and G| / |M or G|      Dice = 2 |M and G| / (|M| + |G|)
    precision = |M and G| / |M|     recall = |M and G| / |G|

An image whose ground truth marks nothing has no value: counting it as 0, or an
empty mask on it as 1, would reward or punish at random.

Source: Jaccard 1912; Dice 1945.
"""

import torch
from torch import Tensor

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column


class Localisation:
    """Overlap of the mask with the ground truth."""

    name = "localisation"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return IoU, Dice, precision and recall; no forward pass."""
        mask = batch.mask.flatten(1)
        truth = _truth(batch).flatten(1)
        both = (mask & truth).sum(dim=1).double()
        kept, marked = mask.sum(dim=1).double(), truth.sum(dim=1).double()
        absent = [
            (AbsenceReason.INVALID_ITEM, batch.invalid),
            (AbsenceReason.NO_GROUND_TRUTH, ~_has_truth(batch)),
            (AbsenceReason.EMPTY_GROUND_TRUTH, marked == 0),
            (AbsenceReason.NON_FINITE, batch.non_finite_map),
            (AbsenceReason.CONSTANT_MAP, batch.constant_map),
        ]
        empty_mask = (AbsenceReason.EMPTY_MASK, kept == 0)
        return {
            "localisation_iou": column(both / (kept + marked - both), absent),
            "localisation_dice": column(2 * both / (kept + marked), absent),
            "localisation_precision": column(both / kept, [*absent, empty_mask]),
            "localisation_recall": column(both / marked, absent),
        }


def _truth(batch: MetricBatch) -> Tensor:
    """Return the ground truth, all false where the batch has none."""
    if batch.ground_truth is None:
        return torch.zeros_like(batch.mask)
    return batch.ground_truth.to(batch.mask.device)


def _has_truth(batch: MetricBatch) -> Tensor:
    """Return which items have a ground truth, (N,) bool."""
    if batch.ground_truth is None:
        return torch.zeros(len(batch.mask), dtype=torch.bool)
    return batch.has_truth

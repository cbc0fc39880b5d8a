# SPDX-License-Identifier: Apache-2.0
"""The ground truth of a batch, and why items have no comparison with it."""

import torch
from torch import Tensor

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch


def truth_of(batch: MetricBatch) -> Tensor:
    """Return the ground truth, (N, H, W) bool, all false where the batch has none."""
    if batch.ground_truth is None:
        return torch.zeros_like(batch.mask)
    return batch.ground_truth.to(batch.mask.device)


def without_truth(batch: MetricBatch) -> list[tuple[AbsenceReason, Tensor]]:
    """Return why items cannot be compared with a ground truth, (N,) bool each.

    An image whose ground truth marks nothing has no value: counting it as 0, or an
    empty mask on it as 1, would reward or punish at random.
    """
    has_truth = batch.has_truth
    if batch.ground_truth is None:
        has_truth = torch.zeros(len(batch.mask), dtype=torch.bool)
    return [
        (AbsenceReason.INVALID_ITEM, batch.invalid),
        (AbsenceReason.NO_GROUND_TRUTH, ~has_truth),
        (AbsenceReason.EMPTY_GROUND_TRUTH, ~truth_of(batch).flatten(1).any(dim=1)),
        (AbsenceReason.NON_FINITE, batch.non_finite_map),
        (AbsenceReason.CONSTANT_MAP, batch.constant_map),
    ]

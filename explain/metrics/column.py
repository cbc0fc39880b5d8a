# SPDX-License-Identifier: Apache-2.0
"""One value of a metric for every item of a batch, or the reason why not."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explain.errors import InvalidInputError
from explain.metrics.absence import AbsenceReason


@dataclass(frozen=True, slots=True, eq=False)
class MetricColumn:
    """Values in float64 on the CPU; NaN exactly where ``absent`` gives a reason.

    Shape: values (N,) float64, absent of length N.
    """

    values: Tensor
    absent: tuple[str | None, ...]

    def __post_init__(self) -> None:
        present = torch.tensor([reason is None for reason in self.absent])
        if present.tolist() != torch.isfinite(self.values).tolist():
            raise InvalidInputError(
                "Expected a finite value or a reason for its absence, for every item."
            )


def column(
    values: Tensor, reasons: Sequence[tuple[AbsenceReason, Tensor]]
) -> MetricColumn:
    """Return the column of the values, absent where a reason applies.

    The first reason that applies to an item is given. A value that is not finite
    although no reason applies is absent as ``non_finite``.

    Shape: values (N,), each reason with (N,) bool saying where it applies.
    """
    numbers = values.detach().double().cpu()
    applies = [*reasons, (AbsenceReason.NON_FINITE, ~torch.isfinite(numbers))]
    absent: list[str | None] = [None] * len(numbers)
    for reason, where in applies:
        for item in torch.nonzero(where.cpu()).flatten().tolist():
            absent[item] = absent[item] or str(reason)
    missing = torch.tensor([reason is not None for reason in absent], dtype=torch.bool)
    return MetricColumn(numbers.masked_fill(missing, torch.nan), tuple(absent))

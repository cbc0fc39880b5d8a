# SPDX-License-Identifier: Apache-2.0
"""Max-sensitivity: how far the map moves when the input hardly does.

    max_{||d||_inf <= r} ||a(x + d) - a(x)||_F / ||a(x)||_F

estimated by the maximum over uniform draws, with the target held fixed and both
maps taken as stored.

Source: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations",
equation 3 and section 4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.errors import InvalidParameterError
from explain.maps import dequantise, quantise
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column


@dataclass(frozen=True, slots=True)
class MaxSensitivity:
    """The largest relative change of the map over small changes of the input."""

    radius: float = 0.02
    draws: int = 10

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "max_sensitivity"

    def __post_init__(self) -> None:
        if self.draws < 1 or not self.radius > 0:
            raise InvalidParameterError(
                f"Expected at least one draw and a radius above 0, got {self.draws}"
                f" and {self.radius}."
            )

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``max_sensitivity``; one explanation a draw."""
        original = dequantise(batch.stored).double()
        norm = _frobenius(original)
        largest = torch.zeros_like(norm)
        reach = self.radius * batch.input_range.to(batch.inputs)[:, None, None]
        for draw in range(self.draws):
            inputs = batch.inputs + batch.noise(draw).to(batch.inputs) * reach
            maps = batch.explain(inputs, batch.targets).maps
            moved = dequantise(quantise(maps)).double().to(original.device)
            # maximum() hands a NaN on, so a failed draw cannot pass for a small one.
            largest = torch.maximum(largest, _frobenius(moved - original) / norm)
        sensitivity = column(
            largest,
            [
                (AbsenceReason.INVALID_ITEM, batch.invalid),
                (AbsenceReason.NON_FINITE, ~torch.isfinite(norm)),
                (AbsenceReason.ZERO_NORM, norm == 0),
            ],
        )
        return {"max_sensitivity": sensitivity}


def _frobenius(maps: Tensor) -> Tensor:
    """Return each map's Frobenius norm, (N,)."""
    return maps.square().sum(dim=(1, 2)).sqrt()

# SPDX-License-Identifier: Apache-2.0
"""Max- and average-sensitivity: how far the map moves when the input hardly does.

    max, mean over d, ||d||_inf <= r, of ||a(x + d) - a(x)||_F / ||a(x)||_F

estimated over uniform draws, with the target held fixed and both maps taken as
stored.

Source: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations",
equation 3 and section 4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.errors import InvalidParameterError
from explain.maps import dequantise, quantise
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import Draw, MetricBatch
from explain.metrics.column import MetricColumn, column


@dataclass(frozen=True, slots=True)
class MaxSensitivity:
    """The largest relative change of the map over small changes of the input."""

    radius: float = 0.02
    samples: int = 10

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "max_sensitivity"

    def __post_init__(self) -> None:
        require_draws(self.radius, self.samples)

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``max_sensitivity``; one explanation a sample, shared."""
        # amax() hands a NaN on, so a failed draw cannot pass for a small one.
        largest = _changes(batch, self.radius, self.samples).amax(dim=0)
        return {"max_sensitivity": column(largest, _absent(batch))}


@dataclass(frozen=True, slots=True)
class AvgSensitivity:
    """The mean relative change of the map over small changes of the input."""

    radius: float = 0.02
    samples: int = 10

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "avg_sensitivity"

    def __post_init__(self) -> None:
        require_draws(self.radius, self.samples)

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``avg_sensitivity``; one explanation a sample, shared."""
        mean = _changes(batch, self.radius, self.samples).mean(dim=0)
        return {"avg_sensitivity": column(mean, _absent(batch))}


def nearby_inputs(batch: MetricBatch, radius: float, draw: int) -> Tensor:
    """Return the inputs moved by a draw of noise within the radius, (N, C, H, W)."""
    reach = radius * batch.input_range.to(batch.inputs)[:, None, None]
    return batch.inputs + batch.noise(Draw.SENSITIVITY + draw) * reach


def nearby_maps(batch: MetricBatch, radius: float, samples: int) -> Tensor:
    """Return the maps of moved inputs as they would be stored, made once.

    Shape: (samples, N, h, w) float32.
    """

    def made() -> Tensor:
        maps = []
        for draw in range(samples):
            moved = batch.explained(nearby_inputs(batch, radius, draw))
            maps.append(dequantise(quantise(moved.maps)).to(batch.inputs.device))
        return torch.stack(maps)

    return batch.once(f"nearby {radius} {samples}", made)


def _changes(batch: MetricBatch, radius: float, samples: int) -> Tensor:
    """Return the relative change of the map at each draw, (samples, N) float64."""
    original = dequantise(batch.stored).double()
    maps = nearby_maps(batch, radius, samples).double()
    return _frobenius(maps - original) / _frobenius(original)


def _absent(batch: MetricBatch) -> list[tuple[AbsenceReason, Tensor]]:
    norm = _frobenius(dequantise(batch.stored).double())
    return [
        (AbsenceReason.INVALID_ITEM, batch.invalid),
        (AbsenceReason.NON_FINITE, ~torch.isfinite(norm)),
        (AbsenceReason.ZERO_NORM, norm == 0),
    ]


def _frobenius(maps: Tensor) -> Tensor:
    """Return each map's Frobenius norm, (..., N)."""
    return maps.square().sum(dim=(-2, -1)).sqrt()


def require_draws(radius: float, samples: int) -> None:
    """Refuse what would measure nothing."""
    if samples < 1 or not radius > 0:
        raise InvalidParameterError(
            f"Expected at least one draw and a radius above 0, got {samples}"
            f" and {radius}."
        )

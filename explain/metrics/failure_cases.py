# SPDX-License-Identifier: Apache-2.0
"""Is the item one of the kinds on which thresholded maps are known to fail?

    texture  = mean length of the luminance's gradient (Sobel, a pixel), of 0 .. 1
    contrast = standard deviation of the luminance (RMS contrast)
    peaks    = highest positions within a tenth of the map's longer side that reach
               half of its maximum, as the policy multi_peak finds them
    margin   = p of the most probable class - p of the next

and for each a flag: above or below a limit.

Sources: the four failure cases of Li 2025, "A Lightweight Explainability Framework for
Neural Networks", sections 7 and 8.5, which gives no rule; the rules are our own. Peli
1990, "Contrast in complex images" (RMS contrast).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from explain.maps import dequantise
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.thresholds.peaks import peaks

#: Rec. 601: what red, green and blue add to the luminance.
_WEIGHTS = (0.299, 0.587, 0.114)
#: Least height of a peak, as a share of the map's maximum, and how far it rules.
_PEAK, _DISTANCE = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class FailureCases:
    """Four properties of an item, and whether each is beyond its limit."""

    texture: float = 0.045
    contrast: float = 0.125
    peaks: int = 2
    margin: float = 0.05

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "failure_cases"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return each property and its flag; no forward pass."""
        shown = luminance(batch)
        texture = gradients(shown)
        contrast = shown.flatten(1).std(dim=1, correction=0)
        tops, margin = peaks_of(batch), margins(batch)
        invalid = [(AbsenceReason.INVALID_ITEM, batch.invalid)]
        found: dict[str, MetricColumn] = {}
        for name, values, beyond, reasons in (
            ("texture", texture, texture > self.texture, invalid),
            ("contrast", contrast, contrast < self.contrast, invalid),
            ("peaks", tops, tops >= self.peaks, batch.unusable),
            ("margin", margin, margin < self.margin, invalid),
        ):
            # No comparison holds for NaN, which is not the same as within the limit.
            flag = torch.where(values.isnan(), values, beyond.double())
            found[f"case_{name}"] = column(values, reasons)
            found[f"case_{name}_flag"] = column(flag, reasons)
        return found


def luminance(batch: MetricBatch) -> Tensor:
    """Return the items' luminance in units of the input range, without its offset.

    Shape: (N, H, W) float64.
    """
    images = batch.inputs.double() / batch.input_range.to(batch.inputs)[:, None, None]
    if images.shape[1] != len(_WEIGHTS):
        return images.mean(dim=1)
    weights = torch.tensor(_WEIGHTS, dtype=torch.float64, device=images.device)
    return (images * weights[:, None, None]).sum(dim=1)


def gradients(shown: Tensor) -> Tensor:
    """Return the mean length of the gradient, in range a pixel.

    Shape: (N, H, W) float64 -> (N,) float64.
    """
    slope = torch.tensor(
        [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]],
        dtype=shown.dtype,
        device=shown.device,
    )
    framed = pad(shown[:, None], (1, 1, 1, 1), mode="replicate")
    # Eight is what the kernel gives for a slope of one a pixel.
    across = conv2d(framed, slope[None, None]) / 8
    down = conv2d(framed, slope.T[None, None]) / 8
    return torch.sqrt(across**2 + down**2).flatten(1).mean(dim=1)


def peaks_of(batch: MetricBatch) -> Tensor:
    """Return how many separate peaks the stored map has, (N,) float64; NaN for none.

    As the policy multi_peak has it: the highest within a tenth of the longer side, and
    at least half of the maximum.
    """
    maps = dequantise(batch.stored)
    finite = torch.isfinite(maps.flatten(1)).all(dim=1)
    values = maps.where(finite[:, None, None], 0.0).contiguous()
    top = values.flatten(1).amax(dim=1)
    radius = max(1, round(_DISTANCE * max(values.shape[1:])))
    tops = peaks(values, top * _PEAK, radius)
    found = tops.flatten(1).sum(dim=1).double()
    return found.masked_fill(~finite, torch.nan)


def margins(batch: MetricBatch) -> Tensor:
    """Return how far the first class is ahead of the second, (N,) float64.

    A network of one class is as sure as it can be.
    """
    chances = batch.logits.double().softmax(dim=1)
    if chances.shape[1] < 2:
        return chances[:, 0]
    first, second = chances.topk(2, dim=1).values.unbind(dim=1)
    return first - second

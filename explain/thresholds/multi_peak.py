# SPDX-License-Identifier: Apache-2.0
"""Keep each separate peak with what belongs to it, however low beside the highest.

One threshold for the whole map drops a second, weaker object or joins it to the
first; here each peak brings its own.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explain.thresholds.peaks import parts_around, peaks
from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.shaped import grid, shaped_result


@dataclass(frozen=True, slots=True)
class MultiPeak:
    """Keeps, around each peak, the connected part of at least gamma of the peak.

    A peak is the highest position within distance (a fraction of the longer side)
    and at least beta of the map's maximum.
    """

    beta: float = 0.5
    gamma: float = 0.6
    distance: float = 0.1

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "multi_peak"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = False
    passes: ClassVar[float] = 0.0

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the masks of the parts around the peaks.

        Shape: maps (N, H, W) or (N, L) float32.
        """
        pictures = grid(self.name, maps)
        radius = max(1, round(self.distance * max(pictures.maps.shape[1:])))
        # A map that shows nothing would only cost time.
        values = pictures.maps.where(pictures.usable[:, None, None], 0.0).contiguous()
        tops = peaks(values, pictures.highest * self.beta, radius)
        return shaped_result(pictures, parts_around(values, tops, self.gamma))

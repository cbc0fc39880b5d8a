# SPDX-License-Identifier: Apache-2.0
"""Preset for pictures from above: many small parts, only single specks dropped.

The values are a convention, not a measured truth.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explain.thresholds.medical import large_parts
from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.shaped import grid, shaped_result


@dataclass(frozen=True, slots=True)
class Satellite:
    """Keeps the connected parts from half the maximum that are more than specks.

    Holes stay open: a courtyard is no roof. Where every part is a speck, the one
    with the maximum is kept.
    """

    relative: float = 0.5
    area: float = 0.0001

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "satellite"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = False
    passes: ClassVar[float] = 0.0

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the masks of the parts that are large enough.

        Shape: maps (N, H, W) or (N, L) float32.
        """
        pictures = grid(self.name, maps)
        return shaped_result(pictures, large_parts(pictures, self.relative, self.area))

# SPDX-License-Identifier: Apache-2.0
"""Keep what reaches a share of the map's maximum."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.selection import keep, ranked


@dataclass(frozen=True, slots=True)
class RelativeValue:
    """Keeps the positions of at least the given fraction of the map's maximum.

    Source: Selvaraju et al. 2017, "Grad-CAM", section 4.1, which cuts at 15 % of the
    maximum to draw boxes.
    """

    fraction: float = 0.5
    floor: float = 0.0

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "relative"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the masks of what is at least fraction times the maximum.

        Shape: maps (N, *positions) float32.
        """
        order = ranked(maps)
        reached = order.values >= order.values[:, :1] * self.fraction
        return keep(order, (reached & (order.values > 0)).sum(dim=1), floor=self.floor)

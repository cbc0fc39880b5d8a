# SPDX-License-Identifier: Apache-2.0
"""Keep the smallest mask that holds a share of the map's positive mass."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.selection import Ranked, keep, ranked


@dataclass(frozen=True, slots=True)
class CumulativeMass:
    """Keeps the fewest positions that hold at least tau of the positive mass."""

    tau: float = 0.5
    floor: float = 0.0

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "mass"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the smallest masks that hold tau of the mass.

        Shape: maps (N, *positions) float32.
        """
        order = ranked(maps)
        return keep(order, mass_counts(order, self.tau), floor=self.floor)


def mass_counts(order: Ranked, tau: float) -> Tensor:
    """Return the least counts whose sum reaches tau of the positive mass, (N,).

    Sums are float64; what is too small to change them does not count.
    """
    short = order.energy < order.total[:, None] * tau
    return (short.sum(dim=1) + 1).clamp(max=order.positions)

# SPDX-License-Identifier: Apache-2.0
"""Otsu's threshold, exact on the map's own float values.

The usual form sorts values into 256 bins first, and the cut moves with the bins.
Here every distinct value is a bin of its own, which costs one sort and running sums.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.selection import Ranked, keep, ranked


@dataclass(frozen=True, slots=True)
class Otsu:
    """Keeps the brighter of the two classes with the greatest variance between them.

    Of several equally good cuts the lowest is taken. Negative values count as zero.

    Source: Otsu 1979, "A threshold selection method from gray-level histograms",
    equation 18.
    """

    floor: float = 0.0

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "otsu"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the masks of what lies above Otsu's threshold.

        Shape: maps (N, *positions) float32.
        """
        order = ranked(maps)
        return keep(order, otsu_counts(order), floor=self.floor)


def otsu_counts(order: Ranked) -> Tensor:
    """Return how many positions lie above Otsu's threshold, (N,) int64.

    With the k highest of n values above, their sum S_k and the sum S of all, the
    variance between the classes is (n S_k - k S)^2 / (k (n - k)), up to a constant.
    """
    positions = order.positions
    above = torch.arange(1, positions, dtype=torch.float64, device=order.flat.device)
    moment = order.energy[:, :-1] * positions - above * order.total[:, None]
    between = moment.square() / (above * (positions - above))
    # A cut within equal values is none.
    parted = order.values[:, :-1] > order.values[:, 1:]
    between = torch.where(parted, between, -1.0)
    if positions == 1:
        return torch.zeros_like(order.positives)
    # The last of the greatest is the lowest of the equally good cuts.
    return positions - 1 - between.flip(1).argmax(dim=1)

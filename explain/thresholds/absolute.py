# SPDX-License-Identifier: Apache-2.0
"""Keep what reaches a value, in the map's own units."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explain.errors import InvalidParameterError
from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.selection import keep, ranked


@dataclass(frozen=True, slots=True)
class AbsoluteValue:
    """Keeps the positions whose attribution is at least the value.

    The value is rounded to float32, as the maps are. A map that it exceeds keeps
    nothing and is ``insufficient_support``.
    """

    value: float
    floor: float = 0.0

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "absolute"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise InvalidParameterError(
                f"Expected a value above 0, since positions without positive"
                f" attribution are never kept, got {self.value!r}."
            )

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the masks of what is at least the value.

        Shape: maps (N, *positions) float32.
        """
        order = ranked(maps)
        value = torch.tensor(self.value, dtype=torch.float32, device=maps.device)
        return keep(order, (order.values >= value).sum(dim=1), floor=self.floor)

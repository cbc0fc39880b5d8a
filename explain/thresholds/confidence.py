# SPDX-License-Identifier: Apache-2.0
"""Keep little where the network is sure, and more where it is not."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explain.errors import InvalidParameterError
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdResult,
    require_context,
)
from explain.thresholds.selection import counts_of, keep, ranked


@dataclass(frozen=True, slots=True)
class ByConfidence:
    """Keeps keep_min + (keep_max - keep_min) (1 - p), p the target's probability."""

    keep_min: float = 0.05
    keep_max: float = 0.30

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "confidence"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBABILITIES})
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        require_range(self.keep_min, self.keep_max)

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return the masks of fractions that fall with the target's probability.

        Shape: maps (N, *positions) float32.
        """
        given = require_context(self, context).probabilities
        assert given is not None  # noqa: S101 - require_context saw to it
        order = ranked(maps)
        # A probability that is no number says nothing, so that most is kept.
        sure = given.to(maps.device).double().nan_to_num(0.0).clamp(0.0, 1.0)
        fractions = self.keep_min + (self.keep_max - self.keep_min) * (1 - sure)
        counts = counts_of(fractions, order.positions)
        return keep(order, counts, requested=fractions)


def require_range(keep_min: float, keep_max: float) -> None:
    """Refuse fractions that are none, or in the wrong order."""
    if not 0 < keep_min <= keep_max <= 1:
        raise InvalidParameterError(
            f"Expected 0 < keep_min <= keep_max <= 1, got {keep_min:g} and"
            f" {keep_max:g}."
        )

# SPDX-License-Identifier: Apache-2.0
"""Keep more of a busy picture than of a plain one.

A convention, not a truth: a plain scene shows its object in a few pixels, a busy one
spreads the evidence over many. How busy a picture is, is the mean of its grey-level
entropy and its share of edge pixels, both in 0 .. 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explain.errors import InvalidInputError
from explain.thresholds.confidence import require_range
from explain.thresholds.content import edge_density, entropy, grey
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdResult,
    require_context,
)
from explain.thresholds.selection import counts_of, keep, ranked


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Keeps keep_min + (keep_max - keep_min) (entropy + edge density) / 2."""

    keep_min: float = 0.05
    keep_max: float = 0.30
    edge: float = 0.1

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "adaptive"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.IMAGES})
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        require_range(self.keep_min, self.keep_max)

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return the masks of fractions that rise with how busy the pictures are.

        Shape: maps (N, *positions) float32.
        """
        images = require_context(self, context).images
        assert images is not None  # noqa: S101 - require_context saw to it
        if len(images) != len(maps):
            raise InvalidInputError(
                f"Expected one image for each of {len(maps)} maps, got {len(images)}."
            )
        levels = grey(images.to(maps.device))
        busy = (entropy(levels) + edge_density(levels, self.edge)) / 2
        fractions = self.keep_min + (self.keep_max - self.keep_min) * busy
        order = ranked(maps)
        counts = counts_of(fractions, order.positions)
        return keep(order, counts, requested=fractions)

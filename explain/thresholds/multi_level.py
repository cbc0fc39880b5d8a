# SPDX-License-Identifier: Apache-2.0
"""Several fixed fractions at once, from one sort."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from explain.errors import InvalidParameterError
from explain.numpy_maps import kept_count
from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.selection import keep, levels, ranked


@dataclass(frozen=True, slots=True)
class MultiLevel:
    """Keeps nested masks of the given fractions; the main one is the mask.

    The levels are put in ascending order; each is described by its cut and count.
    """

    levels: tuple[float, ...] = (0.05, 0.10, 0.20, 0.50)
    main: float = 0.10

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "multi_level"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if self.main not in self.levels:
            raise InvalidParameterError(
                f"Expected main to be one of the levels"
                f" {', '.join(f'{level:g}' for level in self.levels)}, got"
                f" {self.main:g}."
            )
        if len(set(self.levels)) != len(self.levels):
            raise InvalidParameterError(
                "Policy 'multi_level' has a level twice; give each once."
            )
        for level in self.levels:
            kept_count(level, 1)

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the masks of the main level, and all levels beside them.

        Shape: maps (N, *positions) float32.
        """
        order = ranked(maps)
        count = kept_count(self.main, order.positions)
        counts = torch.full_like(order.positives, count)
        requested = torch.full_like(order.total, self.main)
        result = keep(order, counts, requested=requested)
        return replace(result, levels=levels(order, tuple(sorted(set(self.levels)))))

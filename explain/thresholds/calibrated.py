# SPDX-License-Identifier: Apache-2.0
"""Keep the fraction that suited the class best on items with masks."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explain.errors import InvalidInputError, InvalidParameterError
from explain.numpy_maps import kept_count
from explain.thresholds.calibration import Calibration
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdResult,
    require_context,
)
from explain.thresholds.selection import keep, ranked


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Keeps the fitted fraction of the explained class, or else the pooled one."""

    calibration: Calibration

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "calibrated"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TARGETS})
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.calibration, Calibration):
            raise InvalidParameterError(
                f"Policy 'calibrated' expects a Calibration, got"
                f" {type(self.calibration).__name__}; read one with"
                f" Calibration.from_document."
            )

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return the masks of each item's class's fraction.

        Shape: maps (N, *positions) float32.
        """
        targets = require_context(self, context).targets
        assert targets is not None  # noqa: S101 - require_context saw to it
        if targets.shape != (len(maps),):
            raise InvalidInputError(
                f"Expected one target for each of {len(maps)} maps, got"
                f" {tuple(targets.shape)}."
            )
        order = ranked(maps)
        rows = self.calibration.classes
        keeps = [self.calibration.pooled.keep, *(row.keep for row in rows)]
        device = maps.device
        counts = [kept_count(part, order.positions) for part in keeps]
        # The pooled fraction stands first, so that its class is no class's number.
        known = torch.tensor([row.target for row in rows], dtype=torch.int64)
        matches = targets.to(device)[:, None] == known.to(device)[None]
        places = torch.arange(1, len(rows) + 1, device=device)
        place = (matches * places).sum(dim=1)
        return keep(
            order,
            torch.tensor(counts, device=device)[place],
            requested=torch.tensor(keeps, dtype=torch.float64, device=device)[place],
        )

# SPDX-License-Identifier: Apache-2.0
"""Results of rules whose masks have a shape of their own, and are no cut."""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.errors import InvalidInputError
from explain.thresholds.policy import ThresholdResult, require_positions
from explain.thresholds.selection import status_codes


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Maps as pictures: a sequence is a picture of one row.

    Shape: maps (N, H, W) float32; highest (N,) float32; finite, usable (N,) bool.
    """

    maps: Tensor
    highest: Tensor
    finite: Tensor
    usable: Tensor
    shape: torch.Size

    def above(self, fraction: float) -> Tensor:
        """Return where the maps are positive and reach a fraction of their maximum.

        Shape: (N, H, W) bool.
        """
        level = self.highest * fraction
        reached = (self.maps >= level[:, None, None]) & (self.maps > 0)
        return reached & self.usable[:, None, None]


def grid(policy: str, maps: Tensor) -> Grid:
    """Return the maps as pictures, refusing what is neither picture nor sequence."""
    if maps.ndim not in {2, 3}:
        raise InvalidInputError(
            f"Policy {policy!r} looks at neighbours, so it expects maps (N, H, W) or"
            f" (N, L), got {tuple(maps.shape)}."
        )
    flat = require_positions(maps)
    lowest, highest = flat.amin(dim=1), flat.amax(dim=1)
    finite = torch.isfinite(lowest) & torch.isfinite(highest)
    pictures = maps if maps.ndim == 3 else maps[:, None]
    return Grid(
        maps=pictures.detach(),
        highest=highest,
        finite=finite,
        usable=finite & (lowest < highest) & (highest > 0),
        shape=maps.shape,
    )


def shaped_result(
    pictures: Grid, mask: Tensor, requested: float | None = None
) -> ThresholdResult:
    """Return what is true of the masks; unusable maps keep nothing.

    Args:
        pictures: The maps.
        mask: (N, H, W) bool, on the maps' device.
        requested: The fraction that was asked for; without it, what was found.
    """
    flat, chosen = pictures.maps.flatten(1), mask.flatten(1)
    chosen = chosen & pictures.usable[:, None]
    kept = chosen.sum(dim=1)
    achieved = kept.double() / flat.shape[1]
    smallest = torch.where(chosen, flat, torch.inf).amin(dim=1)
    positive = flat.clamp(min=0)
    held = torch.where(chosen, positive, 0.0).sum(dim=1, dtype=torch.float64)
    total = positive.sum(dim=1, dtype=torch.float64)
    constant = flat.amin(dim=1) == flat.amax(dim=1)
    return ThresholdResult(
        mask=chosen.view(pictures.shape),
        requested=achieved if requested is None else torch.full_like(total, requested),
        achieved=achieved,
        cut=torch.where(kept > 0, smallest, 0.0),
        kept=kept,
        energy_retained=torch.where(kept > 0, held / total, 0.0),
        codes=status_codes(pictures.finite, ~constant, kept > 0),
    )

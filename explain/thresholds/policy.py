# SPDX-License-Identifier: Apache-2.0
"""What every threshold policy takes and gives, and masks rebuilt from a cut."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from explain.errors import InvalidInputError
from explain.thresholds.status import ThresholdStatus


@dataclass(frozen=True, slots=True)
class ThresholdResult:
    """The masks of one batch and what is true of each.

    ``requested`` and ``achieved`` are fractions of all positions. ``cut`` is the
    smallest kept value, 0 where nothing is kept; with it ``kept``, the number of
    positions, rebuilds the mask. ``energy_retained`` is the share of the map's
    positive energy inside the mask.

    Shape: mask (N, *positions) bool; requested, achieved, energy_retained (N,)
    float64; cut (N,) float32; kept (N,) int64; status of length N.
    """

    mask: Tensor
    requested: Tensor
    achieved: Tensor
    cut: Tensor
    kept: Tensor
    energy_retained: Tensor
    status: list[ThresholdStatus]


class ThresholdPolicy(Protocol):
    """A rule that decides which part of a map is kept."""

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""

    def apply(self, maps: Tensor) -> ThresholdResult:
        """Return the masks; an item's mask does not depend on its neighbours.

        Shape: maps (N, *positions) float32.
        """


def mask_from_cut(maps: Tensor, cut: Tensor, kept_count: Tensor) -> Tensor:
    """Return the masks that recorded cuts and counts describe, bit for bit.

    Kept is what lies above the cut, and as many positions at the cut, by lowest
    index, as fill the count.

    Shape: maps (N, *positions), cut (N,) float32, kept_count (N,) int64.
    """
    if cut.shape != kept_count.shape or cut.shape != (len(maps),):
        raise InvalidInputError(
            f"Expected one cut and one count for each of {len(maps)} maps, got"
            f" {tuple(cut.shape)} and {tuple(kept_count.shape)}."
        )
    flat = maps.flatten(1)
    mask = flat > cut[:, None]
    missing = kept_count.to(flat.device) - mask.sum(dim=1)
    at_cut = flat == cut[:, None]
    mask |= at_cut & (at_cut.cumsum(dim=1) <= missing[:, None])
    mask &= (kept_count > 0).to(flat.device)[:, None]
    return mask.view(maps.shape)


def require_positions(maps: Tensor) -> Tensor:
    """Return the maps as (N, n) float32, refusing what has no positions."""
    if maps.ndim < 2 or 0 in maps.shape[1:] or maps.dtype != torch.float32:
        raise InvalidInputError(
            f"Expected float32 maps (N, *positions), got {tuple(maps.shape)}"
            f" {maps.dtype}."
        )
    return maps.flatten(1)

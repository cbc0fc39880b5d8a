# SPDX-License-Identifier: Apache-2.0
"""What every threshold policy takes and gives, and masks rebuilt from a cut."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

from explain.draws import ItemDraws
from explain.errors import InvalidInputError, MissingContextError
from explain.thresholds.status import STATUSES, ThresholdStatus


class Need(StrEnum):
    """What a policy must know beside the map; a field of ``ThresholdContext``."""

    INPUTS = "inputs"
    IMAGES = "images"
    TARGETS = "targets"
    PROBABILITIES = "probabilities"
    SCORE = "score"
    REGIONS = "regions"
    DRAWS = "draws"
    NEIGHBOURS = "neighbours"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ThresholdContext:
    """What a policy may know of a batch beside its maps; what is unknown is None.

    Attributes:
        inputs: (N, C, H, W), normalised as the model takes them.
        images: (N, C, H, W) float32 in [0, 1]: what a person sees.
        targets: (N,) int64, the explained classes.
        probabilities: (N,) float64, softmax probability of the target on the whole
            input.
        score: Softmax probability of the target on other inputs: takes inputs
            (M, C, H, W) and the item of each, (M,) int64; gives (M,) float64.
        regions: (N, H, W) int64, a given segmentation: a label for each position.
        draws: The items' random numbers, for a policy that explores.
        neighbours: (U, U) bool, which positions of the one item of the batch touch,
            where that is no matter of rows and columns.
    """

    inputs: Tensor | None = None
    images: Tensor | None = None
    targets: Tensor | None = None
    probabilities: Tensor | None = None
    score: Callable[[Tensor, Tensor], Tensor] | None = None
    regions: Tensor | None = None
    draws: ItemDraws | None = None
    neighbours: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Levels:
    """Nested masks of one batch, from the smallest to the largest.

    Each level's mask is rebuilt from its cut and count like a single one.

    Shape: requested (L,) float64; achieved, energy_retained (N, L) float64; cut
    (N, L) float32; kept (N, L) int64.
    """

    requested: Tensor
    achieved: Tensor
    cut: Tensor
    kept: Tensor
    energy_retained: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdResult:
    """The masks of one batch and what is true of each, on the maps' device.

    ``requested`` and ``achieved`` are fractions of all positions; a policy that
    asks for something else than a fraction (energy, confidence, a value) requests
    what it found. ``cut`` is the smallest kept value, 0 where nothing is kept; with
    it ``kept``, the number of positions, rebuilds the mask where the policy is
    ``cut_based``. ``energy_retained`` is the share of the map's positive energy
    inside the mask. ``halved`` says that a forward pass had to be halved for lack of
    memory, which changes last bits.

    Shape: mask (N, *positions) bool; requested, achieved, energy_retained (N,)
    float64; cut (N,) float32; kept (N,) int64; codes (N,) int8, a place in
    ``STATUSES``.
    """

    mask: Tensor
    requested: Tensor
    achieved: Tensor
    cut: Tensor
    kept: Tensor
    energy_retained: Tensor
    codes: Tensor
    levels: Levels | None = None
    halved: bool = False

    @property
    def status(self) -> list[ThresholdStatus]:
        """The status of each item; waits for the device."""
        return [STATUSES[code] for code in self.codes.tolist()]


class ThresholdPolicy(Protocol):
    """A rule that decides which part of a map is kept."""

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""

    @property
    def needs(self) -> frozenset[Need]:
        """What of the context must be there."""

    @property
    def cut_based(self) -> bool:
        """Whether each mask is what cut and count describe (see ``mask_from_cut``)."""

    @property
    def passes(self) -> float:
        """What a mask costs beside the map, in forward passes an item."""

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return the masks; an item's mask does not depend on its neighbours.

        Shape: maps (N, *positions) float32.

        Raises:
            MissingContextError: something that the policy needs is unknown.
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


def require_context(
    policy: ThresholdPolicy, context: ThresholdContext | None
) -> ThresholdContext:
    """Return the context, refusing one that lacks what the policy needs.

    Raises:
        MissingContextError: something is unknown; says what.
    """
    given = context if context is not None else ThresholdContext()
    lacking = [need for need in Need if need in policy.needs]
    lacking = [need for need in lacking if getattr(given, need.value) is None]
    if lacking:
        raise MissingContextError(
            f"Policy {policy.name!r} needs to know {', '.join(lacking)} of each item"
            f" beside its map; pass them in the context."
        )
    return given

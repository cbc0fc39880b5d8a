# SPDX-License-Identifier: Apache-2.0
"""From a number of positions to a mask: the part that all cut-based rules share.

A rule decides how many positions of each map it keeps; ``keep`` then selects exactly
that many, by value and then by index, never one without positive attribution, and
says what is true of the result. Nothing here waits for a GPU.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explain.numpy_maps import kept_count
from explain.ranking import descending_values
from explain.thresholds.policy import (
    Levels,
    ThresholdResult,
    mask_from_cut,
    require_positions,
)
from explain.thresholds.status import ThresholdStatus

#: What a fraction found on the device may exceed a whole count by and still mean it.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The positive values of one batch of maps in order, with running sums.

    Shape: flat, values (N, n) float32, the values from the highest and no lower than
    zero; energy (N, n) float64, the sum of the values up to each; positives (N,)
    int64, how many positions can be kept, 0 for unusable maps; finite, usable (N,)
    bool; shape is that of the maps.
    """

    shape: torch.Size
    flat: Tensor
    values: Tensor
    energy: Tensor
    positives: Tensor
    finite: Tensor
    usable: Tensor

    @property
    def positions(self) -> int:
        """How many positions a map has."""
        return self.flat.shape[1]

    @property
    def total(self) -> Tensor:
        """The positive energy of each map, (N,) float64."""
        return self.energy[:, -1]

    def energy_at(self, counts: Tensor) -> Tensor:
        """Return the share of positive energy in the first positions; none of none.

        Shape: counts (N,) or (N, K) int64 -> the same, float64.
        """
        columns = counts[:, None] if counts.ndim == 1 else counts
        kept = self.energy.gather(1, (columns - 1).clamp(min=0))
        share = torch.where(columns > 0, kept / self.total[:, None], 0.0)
        return share.view(counts.shape)

    def cut_at(self, counts: Tensor) -> Tensor:
        """Return the smallest of the first values, 0 where there are none.

        Shape: counts (N,) or (N, K) int64 -> the same, float32.
        """
        columns = counts[:, None] if counts.ndim == 1 else counts
        least = self.values.gather(1, (columns - 1).clamp(min=0))
        return torch.where(columns > 0, least, 0.0).view(counts.shape)


def ranked(maps: Tensor) -> Ranked:
    """Return the maps' positive values in order.

    Shape: maps (N, *positions) float32.
    """
    flat = require_positions(maps)
    values = descending_values(flat)
    highest, lowest = values[:, 0], values[:, -1]
    finite = torch.isfinite(highest) & torch.isfinite(lowest)
    usable = finite & (lowest < highest)
    values = values.clamp(min=0)
    positives = torch.where(usable, (values > 0).sum(dim=1), 0)
    energy = _running(values)
    return Ranked(maps.shape, flat, values, energy, positives, finite, usable)


def _running(values: Tensor) -> Tensor:
    """Return the sums of the values up to each, (N, n) float64."""
    if values.device.type != "cpu":
        return values.cumsum(dim=1, dtype=torch.float64)
    # numpy adds in the same order in half the time.
    return torch.from_numpy(values.numpy().cumsum(axis=1, dtype=np.float64))


def keep(
    order: Ranked,
    counts: Tensor,
    *,
    floor: float = 0.0,
    requested: Tensor | None = None,
    reached: Tensor | None = None,
) -> ThresholdResult:
    """Return the masks of the first positions, and what is true of each.

    Args:
        order: The maps in order.
        counts: How many positions the rule asks for, (N,) int64.
        floor: Least fraction kept, where that many positions are positive.
        requested: The fraction that was asked for, (N,) float64; without it, the
            fraction that the counts come to.
        reached: Whether the rule's aim was reached, (N,) bool; elsewhere the status
            is ``q_not_reached``.
    """
    asked = torch.where(order.usable, counts, 0)
    if floor > 0:
        asked = asked.clamp(min=kept_count(floor, order.positions))
    kept = torch.minimum(asked, order.positives)
    cut = order.cut_at(kept)
    if requested is None:
        requested = asked.double() / order.positions
    supported = (kept == asked) & (kept > 0)
    return ThresholdResult(
        mask=selected(order.flat, cut, kept).view(order.shape),
        requested=requested,
        achieved=kept.double() / order.positions,
        cut=cut,
        kept=kept,
        energy_retained=order.energy_at(kept),
        codes=status_codes(order.finite, order.usable, supported, reached),
    )


def levels(order: Ranked, fractions: tuple[float, ...]) -> Levels:
    """Return what nested masks of the given fractions keep.

    Shape: L fractions in ascending order.
    """
    device = order.flat.device
    counts = [kept_count(fraction, order.positions) for fraction in fractions]
    asked = torch.tensor(counts, device=device)
    kept = torch.minimum(asked[None], order.positives[:, None])
    return Levels(
        requested=torch.tensor(fractions, dtype=torch.float64, device=device),
        achieved=kept.double() / order.positions,
        cut=order.cut_at(kept),
        kept=kept,
        energy_retained=order.energy_at(kept),
    )


def counts_of(fractions: Tensor, positions: int) -> Tensor:
    """Return how many positions fractions found on the device mean, at least one.

    Shape: fractions (N,) float64 -> (N,) int64.
    """
    counts = torch.ceil(fractions * positions - _SLACK).long()
    return counts.clamp(min=1, max=positions)


def selected(flat: Tensor, cut: Tensor, counts: Tensor) -> Tensor:
    """Return the masks; ties are only resolved where the cut has too many.

    Shape: flat (N, n), cut (N,) float32, counts (N,) int64 -> (N, n) bool.
    """
    if flat.device.type != "cpu":
        return mask_from_cut(flat, cut, counts)
    mask = flat >= cut[:, None]
    excess = mask.sum(dim=1) - counts
    if bool(excess.any()):
        _resolve_ties(mask, flat, cut, counts, excess)
    return mask


def _resolve_ties(
    mask: Tensor, flat: Tensor, cut: Tensor, counts: Tensor, excess: Tensor
) -> None:
    """What a mask holds too much leaves it: of the values at the cut, the last ones.

    The same masks as those of ``mask_from_cut``, without its sums over all positions.
    """
    for row in excess.nonzero().squeeze(1).tolist():
        if not counts[row]:
            mask[row] = False
            continue
        at_cut = np.flatnonzero((flat[row] == cut[row]).numpy())
        first = max(0, len(at_cut) - int(excess[row]))
        mask[row, torch.from_numpy(at_cut[first:])] = False


def status_codes(
    finite: Tensor, usable: Tensor, supported: Tensor, reached: Tensor | None = None
) -> Tensor:
    """Return the status code of each item, the gravest first.

    Shape: (N,) bool each -> (N,) int8.
    """
    codes = torch.full(
        usable.shape, ThresholdStatus.OK.code, dtype=torch.int8, device=usable.device
    )
    if reached is not None:
        codes = torch.where(reached, codes, ThresholdStatus.Q_NOT_REACHED.code)
    for holds, otherwise in (
        (supported, ThresholdStatus.INSUFFICIENT_SUPPORT),
        (usable, ThresholdStatus.CONSTANT_MAP),
        (finite, ThresholdStatus.NON_FINITE),
    ):
        codes = torch.where(holds, codes, otherwise.code)
    return codes.to(torch.int8)

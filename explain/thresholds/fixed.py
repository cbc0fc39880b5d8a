# SPDX-License-Identifier: Apache-2.0
"""Keep p %: a fixed fraction of positions, counted exactly.

The number of kept positions is ceil(keep * n). A percentile with ``>`` or ``>=``
keeps too few or too many on plateaus, and zeros on sparse maps; counting does
neither.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from explain.numpy_maps import kept_count
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdResult,
    require_positions,
)
from explain.thresholds.selection import selected, status_codes


@dataclass(frozen=True, slots=True)
class FixedKeep:
    """Keeps the given fraction of positions, those with the highest values."""

    keep: float

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "fixed"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = True
    passes: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        kept_count(self.keep, 1)

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return masks of exactly ceil(keep * n) positions where support suffices.

        Shape: maps (N, *positions) float32.
        """
        flat = require_positions(maps)
        items, positions = flat.shape
        count = kept_count(self.keep, positions)
        largest, next_lower = _largest(flat, count)
        lowest, highest = flat.amin(dim=1), largest.amax(dim=1)
        finite = torch.isfinite(lowest) & torch.isfinite(highest)
        usable = finite & (lowest < highest)
        cut = largest.amin(dim=1)
        supported = usable & (cut > 0)
        counts = torch.full((items,), count, device=flat.device)
        if next_lower is not None and bool((supported & (next_lower < cut)).all()):
            mask = flat >= cut[:, None]  # no ties: the cut keeps exactly that many
        else:
            if not (_may_look(flat) and bool(supported.all())):
                cut, counts = _settle_unsupported(flat, cut, counts, supported, usable)
            mask = selected(flat, cut, counts)
        return ThresholdResult(
            mask=mask.view(maps.shape),
            requested=torch.full(
                (items,), self.keep, dtype=torch.float64, device=flat.device
            ),
            achieved=counts.double() / positions,
            cut=cut,
            kept=counts,
            energy_retained=_energy(flat, largest, lowest, counts, supported),
            codes=status_codes(finite, usable, supported),
        )


def _largest(flat: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
    """Return the highest values of each map in no order, and the next lower one.

    A selection, not a sort: sorting costs a third of a small network's forward. NaN
    counts as the highest. The next lower one is None where it would cost a pass of
    its own, or there is none.

    Shape: (N, n) -> (N, count), (N,).
    """
    if flat.device.type != "cpu":
        return flat.topk(count, dim=1, sorted=False).values, None
    # numpy selects in half of torch's time, in a third where cores are busy.
    first = flat.shape[1] - count
    parted = torch.from_numpy(np.partition(flat.detach().numpy(), first, axis=1))
    return parted[:, first:], parted[:, :first].amax(dim=1) if first else None


def _energy(
    flat: Tensor, largest: Tensor, lowest: Tensor, counts: Tensor, supported: Tensor
) -> Tensor:
    """Return the positive energy kept: of the selection, or all, or none of it.

    Summing the selected values alone spares two passes over all positions; the
    result is that of ``explain.maps.energy_retained`` up to the order of the sum.
    """
    signless = _may_look(flat) and bool((lowest >= 0).all())
    positive = flat if signless else flat.clamp(min=0)
    total = positive.sum(dim=1, dtype=torch.float64)
    kept = largest.sum(dim=1, dtype=torch.float64)
    return torch.where(supported, kept / total, (counts > 0).double())


def _settle_unsupported(
    flat: Tensor, cut: Tensor, counts: Tensor, supported: Tensor, usable: Tensor
) -> tuple[Tensor, Tensor]:
    """Return cuts and counts where some maps have too few positive positions.

    Those keep all positive positions; unusable ones keep none and get cut 0.
    """
    positive = flat > 0
    smallest = torch.where(positive, flat, torch.inf).amin(dim=1)
    support = torch.where(usable, positive.sum(dim=1), 0)
    counts = torch.where(supported, counts, support)
    cut = torch.where(supported, cut, torch.where(counts > 0, smallest, 0.0))
    return cut, counts


def _may_look(flat: Tensor) -> bool:
    """Say whether a value may be read now: on a GPU that would stop the queue."""
    return flat.device.type == "cpu"

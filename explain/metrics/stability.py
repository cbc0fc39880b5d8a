# SPDX-License-Identifier: Apache-2.0
"""Relative stability, and what thresholds leave in common.

    RIS = max ||(a - a') / a|| / max(||(x - x') / x||, eps)
    ROS = max ||(a - a') / a|| / max(||h - h'||, eps)
    RRS = max ||(a - a') / a|| / max(||(l - l') / l||, eps)

over draws x' near x that keep the prediction, with a the map, h the logits, l the
input of the last linear layer. Divisors near zero, which the paper leaves open, are
taken as a share of the largest magnitude.

Source: Agarwal et al. 2022, "Rethinking Stability for Attribution-based Explanations",
equations 2, 3 and 5.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from explain.errors import MissingContextError
from explain.maps import dequantise
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.sensitivity import nearby_inputs, nearby_maps
from explain.thresholds.sweep import sweep_fractions

#: Least change that a ratio is taken to.
EPSILON = 1e-6
#: Fractions whose masks are compared with the next.
FRACTIONS = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class RelativeStability:
    """How much more the map changes than input, output and representation."""

    radius: float = 0.02
    samples: int = 10
    floor: float = 0.01

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "relative_stability"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return the three ratios; a shared explanation and a pass a sample."""
        if batch.represent is None:
            raise MissingContextError(
                "Expected a way to hear the network's representation, got none; give"
                " the batch one, or leave relative_stability out."
            )
        maps = nearby_maps(batch, self.radius, self.samples)
        largest = _Largest.none(batch)
        with torch.no_grad():
            here, heard = batch.represent(batch.inputs)
            original = dequantise(batch.stored)
            for draw in range(self.samples):
                inputs = nearby_inputs(batch, self.radius, draw)
                there, hears = batch.represent(inputs)
                same = here.argmax(dim=1) == there.argmax(dim=1)
                changes = [
                    self._relative(batch.inputs, inputs),
                    (here.double() - there.double()).square().sum(dim=1).sqrt(),
                ]
                if heard is not None and hears is not None:
                    changes.append(self._relative(heard, hears))
                largest.take(self._relative(original, maps[draw]), changes, same)
        return self._columns(batch, largest)

    def _relative(self, one: Tensor, two: Tensor) -> Tensor:
        """Return ||(one - two) / one||_2 with divisors of at least the floor, (N,)."""
        first, second = one.flatten(1).double(), two.flatten(1).double()
        size = first.abs()
        least = self.floor * size.amax(dim=1, keepdim=True)
        # Everything zero has no relative change: 0 / 0 is NaN, and absent below.
        return ((first - second) / torch.maximum(size, least)).square().sum(1).sqrt()

    def _columns(
        self, batch: MetricBatch, largest: "_Largest"
    ) -> dict[str, MetricColumn]:
        stored = dequantise(batch.stored).flatten(1)
        absent = [
            (AbsenceReason.INVALID_ITEM, batch.invalid),
            (AbsenceReason.NON_FINITE, ~torch.isfinite(stored).all(dim=1)),
            (AbsenceReason.ZERO_NORM, (stored == 0).all(dim=1)),
            (AbsenceReason.CLASS_CHANGED, ~largest.any_kept),
        ]
        found = {}
        for place, what in enumerate(("input", "output", "representation")):
            if place < len(largest.ratios):
                values, reasons = largest.ratios[place], absent
            else:
                values = torch.full_like(largest.ratios[0], torch.nan)
                everywhere = torch.ones_like(largest.any_kept)
                reasons = [*absent, (AbsenceReason.NO_REPRESENTATION, everywhere)]
            found[f"relative_stability_{what}"] = column(values, reasons)
        return found


@dataclass(slots=True, eq=False)
class _Largest:
    """The largest ratios so far, and which items kept their prediction at all."""

    any_kept: Tensor
    ratios: list[Tensor] = field(default_factory=list)

    @classmethod
    def none(cls, batch: MetricBatch) -> "_Largest":
        nobody = torch.zeros(len(batch.inputs), dtype=torch.bool)
        return cls(nobody.to(batch.inputs.device))

    def take(self, moved: Tensor, changes: list[Tensor], kept: Tensor) -> None:
        """The ratios of one more draw are taken in where the prediction was kept."""
        self.any_kept = self.any_kept | kept
        if not self.ratios:
            self.ratios = [torch.zeros_like(moved) for _ in changes]
        for place, change in enumerate(changes):
            ratio = moved / change.clamp(min=EPSILON)
            before = self.ratios[place]
            # maximum() hands a NaN on, so a failed draw cannot pass for a small one.
            self.ratios[place] = torch.where(kept, torch.maximum(before, ratio), before)


class ThresholdStability:
    """Overlap of the masks of neighbouring keep-fractions."""

    name = "threshold_stability"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``threshold_stability``; no forward pass."""
        kept = sweep_fractions(batch.maps, fractions=FRACTIONS).kept.double()
        # Masks of one map are nested, so that the smaller is what both have.
        overlaps = [
            kept[:, place] / kept[:, after]
            for place, after in pairwise(range(len(FRACTIONS)))
        ]
        value = torch.stack(overlaps).mean(dim=0)
        empty = (AbsenceReason.EMPTY_MASK, kept[:, -1] == 0)
        return {"threshold_stability": column(value, [*batch.unusable, empty])}

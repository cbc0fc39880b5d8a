# SPDX-License-Identifier: Apache-2.0
"""Every keep-fraction at once: mask metrics and curves from one sort a map.

The first k positions in order are the mask of count k, so that running sums over the
order hold every mask's energy and its overlap with the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explain.errors import InvalidInputError
from explain.numpy_maps import kept_count
from explain.ranking import descending_values, descending_with
from explain.thresholds.policy import require_positions
from explain.thresholds.selection import status_codes

#: 1 %, 2 % ... 100 %.
PERCENTS: tuple[float, ...] = tuple(percent / 100 for percent in range(1, 101))


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One map's precision and recall over all its distinct values, as cuts.

    As in scikit-learn: by ascending cut, with a last point of precision 1 and
    recall 0 that has no cut.

    Shape: precision, recall (D + 1,) float64; cuts (D,) float32.
    """

    precision: Tensor
    recall: Tensor
    cuts: Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sweep:
    """What masks of each keep-fraction hold; NaN where a ratio is undefined.

    Masks are those of the ``fixed`` policy: exact counts, zeros never kept. Unusable
    maps keep nothing, and their code says why; what compares them to the truth is
    NaN. Precision is NaN where nothing is kept, recall where the truth is empty, F1
    (Dice) and IoU where both are. Without a truth there is only energy.

    Shape: fractions (K,) float64; kept (N, K) int64; energy and the comparisons
    (N, K) float64; codes (N,) int8, that of a map whatever the fraction; truth_sizes
    (N,) int64; values (N, n) float32 in order; marks (N, n) bool, which of them are
    true, or None.
    """

    fractions: Tensor
    kept: Tensor
    energy: Tensor
    codes: Tensor
    values: Tensor
    marks: Tensor | None
    truth_sizes: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor
    iou: Tensor

    def average_precision(self) -> Tensor:
        """Return the sum over cuts of precision times the step in recall, (N,).

        Equal values are one cut. NaN for unusable maps and empty truths.

        Raises:
            InvalidInputError: there is no truth.
        """
        hits = _running_hits(self.marks)
        last = _last_of_equals(self.values)
        seen = torch.where(last, hits, 0).cummax(dim=1).values
        fresh = hits.new_zeros(hits.shape)
        fresh[:, 1:] = seen[:, :-1]
        ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
        steps = torch.where(last, (hits - fresh) * (hits.double() / ranks), 0.0)
        average = steps.sum(dim=1) / self.truth_sizes
        return average.where(~self.recall[:, 0].isnan(), torch.nan)

    def curve(self, item: int) -> Curve:
        """Return one map's precision-recall curve; waits for the device.

        Raises:
            InvalidInputError: there is no truth.
        """
        marks = None if self.marks is None else self.marks[item : item + 1]
        hits = _running_hits(marks)[0]
        last = (
            _last_of_equals(self.values[item : item + 1])[0]
            .nonzero()
            .squeeze(1)
            .flip(0)
        )
        true = hits[last].double()
        end = true.new_tensor([1.0])
        return Curve(
            precision=torch.cat([true / (last + 1), end]),
            recall=torch.cat([true / self.truth_sizes[item], 1 - end]),
            cuts=self.values[item][last],
        )


def sweep_fractions(
    maps: Tensor, truth: Tensor | None = None, fractions: Sequence[float] = PERCENTS
) -> Sweep:
    """Return the metrics of each map's masks at every fraction, from one sort a map.

    Waits for nothing on a GPU.

    Shape: maps (N, *positions) float32, truth the same, bool; K fractions.

    Raises:
        InvalidInputError: the truth has another shape or is not boolean.
        InvalidParameterError: a fraction is not in (0, 1].
    """
    flat = require_positions(maps)
    if truth is not None and (truth.shape != maps.shape or truth.dtype != torch.bool):
        raise InvalidInputError(
            f"Expected a truth of the maps' shape {tuple(maps.shape)}, bool, got"
            f" {tuple(truth.shape)} {truth.dtype}."
        )
    marks: Tensor | None = None
    if truth is None:
        values = descending_values(flat)
    else:
        values, marks = descending_with(flat, truth.flatten(1))
    finite = torch.isfinite(values[:, 0]) & torch.isfinite(values[:, -1])
    usable = finite & (values[:, 0] > values[:, -1])
    support = torch.where(usable, (values > 0).sum(dim=1), 0)
    positions = flat.shape[1]
    counts = [kept_count(fraction, positions) for fraction in fractions]
    asked = torch.tensor(counts, device=maps.device)
    kept = torch.minimum(asked[None], support[:, None])
    # Beyond the support there is nothing to add, so that counts need no limit here.
    running = sums_at(values.clamp(min=0), [*counts, positions], torch.float64)
    energy = running[:, :-1] / running[:, -1:]
    sizes = torch.zeros_like(support)
    true = torch.zeros_like(kept)
    if marks is not None:
        found = sums_at(marks, [*counts, positions], torch.int64)
        supported = (marks & (values > 0)).sum(dim=1)
        true = torch.where(
            asked[None] <= support[:, None], found[:, :-1], supported[:, None]
        )
        sizes = found[:, -1]
    known = usable & (marks is not None)
    compared = _compared(true, kept, sizes, known)
    return Sweep(
        fractions=torch.tensor(fractions, dtype=torch.float64, device=maps.device),
        kept=kept,
        energy=torch.where(kept > 0, energy, 0.0),
        codes=status_codes(finite, usable, support > 0),
        values=values,
        marks=marks,
        truth_sizes=sizes,
        precision=compared[0],
        recall=compared[1],
        f1=compared[2],
        iou=compared[3],
    )


def sums_at(ordered: Tensor, counts: Sequence[int], kind: torch.dtype) -> Tensor:
    """Return the sums of the first so many positions of each row.

    Shape: ordered (N, n), K counts in 1 .. n -> (N, K) of the kind.
    """
    if ordered.device.type != "cpu":
        places = torch.tensor(counts, device=ordered.device) - 1
        return ordered.cumsum(dim=1, dtype=kind).index_select(1, places)
    # Only what lies between two counts is summed, a tenth of the work on the CPU.
    ends, back = np.unique(np.asarray(counts), return_inverse=True)
    number = np.float64 if kind == torch.float64 else np.int64
    parts = np.add.reduceat(
        ordered.numpy()[:, : ends[-1]], [0, *ends[:-1]], axis=1, dtype=number
    )
    return torch.from_numpy(parts.cumsum(axis=1)[:, back])


def _compared(
    true: Tensor, kept: Tensor, sizes: Tensor, known: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return precision, recall, F1 and IoU, each (N, K) float64.

    Shape: true, kept (N, K) int64; sizes (N,) int64; known (N,) bool.
    """
    both, size = true.double(), sizes[:, None].double()
    # 0 / 0 is NaN, which is what an undefined ratio is to be.
    ratios = (
        both / kept,
        both / size,
        2 * both / (kept + size),
        both / (kept + size - both),
    )
    precision, recall, f1, iou = (
        torch.where(known[:, None], ratio, torch.nan) for ratio in ratios
    )
    return precision, recall, f1, iou


def _last_of_equals(values: Tensor) -> Tensor:
    """Return where a value is the last of its equals in order, (N, n) bool."""
    last = torch.ones_like(values, dtype=torch.bool)
    torch.ne(values[:, 1:], values[:, :-1], out=last[:, :-1])
    return last


def _running_hits(marks: Tensor | None) -> Tensor:
    """Return how many true positions there are up to each, (N, n) int64."""
    if marks is None:
        raise InvalidInputError(
            "Expected a truth to compare with, got none; pass it to the sweep."
        )
    return marks.cumsum(dim=1)

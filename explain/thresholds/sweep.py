# SPDX-License-Identifier: Apache-2.0
"""Every keep-fraction at once: mask metrics and curves from one sort a map.

The first k positions in order are the mask of count k, so that running sums over the
order hold every mask's energy and its overlap with the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    (N,) int64; values (N, n) float32 in order; hits (N, n) int64, the true positions
    up to each.
    """

    fractions: Tensor
    kept: Tensor
    energy: Tensor
    codes: Tensor
    values: Tensor
    hits: Tensor | None
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
        hits = _known(self.hits)
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
        hits = _known(self.hits)[item]
        last = _last_of_equals(self.values)[item].nonzero().squeeze(1).flip(0)
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
    hits: Tensor | None = None
    if truth is None:
        values = descending_values(flat)
    else:
        values, marks = descending_with(flat, truth.flatten(1))
        hits = marks.cumsum(dim=1)
    finite = torch.isfinite(values[:, 0]) & torch.isfinite(values[:, -1])
    usable = finite & (values[:, 0] > values[:, -1])
    support = torch.where(usable, (values > 0).sum(dim=1), 0)
    counts = [kept_count(fraction, flat.shape[1]) for fraction in fractions]
    kept = torch.minimum(
        torch.tensor(counts, device=maps.device)[None], support[:, None]
    )
    running = values.clamp(min=0).cumsum(dim=1, dtype=torch.float64)
    before = (kept - 1).clamp(min=0)
    energy = running.gather(1, before) / running[:, -1:]
    compared = _compared(hits, kept, before, usable)
    return Sweep(
        fractions=torch.tensor(fractions, dtype=torch.float64, device=maps.device),
        kept=kept,
        energy=torch.where(kept > 0, energy, 0.0),
        codes=status_codes(finite, usable, support > 0),
        values=values,
        hits=hits,
        truth_sizes=torch.zeros_like(support) if hits is None else hits[:, -1],
        precision=compared[0],
        recall=compared[1],
        f1=compared[2],
        iou=compared[3],
    )


def _compared(
    hits: Tensor | None, kept: Tensor, before: Tensor, usable: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return precision, recall, F1 and IoU, each (N, K) float64."""
    if hits is None:
        nothing = torch.full_like(kept, torch.nan, dtype=torch.float64)
        return nothing, nothing, nothing, nothing
    true = torch.where(kept > 0, hits.gather(1, before), 0).double()
    size = hits[:, -1:].double()
    # 0 / 0 is NaN, which is what an undefined ratio is to be.
    ratios = (
        true / kept,
        true / size,
        2 * true / (kept + size),
        true / (kept + size - true),
    )
    precision, recall, f1, iou = (
        torch.where(usable[:, None], ratio, torch.nan) for ratio in ratios
    )
    return precision, recall, f1, iou


def _last_of_equals(values: Tensor) -> Tensor:
    """Return where a value is the last of its equals in order, (N, n) bool."""
    last = torch.ones_like(values, dtype=torch.bool)
    torch.ne(values[:, 1:], values[:, :-1], out=last[:, :-1])
    return last


def _known(hits: Tensor | None) -> Tensor:
    if hits is None:
        raise InvalidInputError(
            "Expected a truth to compare with, got none; pass it to the sweep."
        )
    return hits

# SPDX-License-Identifier: Apache-2.0
"""What a whole run says, gathered from its items one at a time.

Items arrive in manifest order and are forgotten at once, except for a handful that may
be shown in the gallery; each measured value costs eight bytes. The same items give the
same result on every machine. Importing this module imports neither numpy nor torch.
"""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.gallery_choice import DEFAULT_RANKINGS, Gallery, GalleryPicker, Ranking
from pipeline.item_row import KEEP_ACHIEVED, SCORE, ItemRow
from storage.states import ItemStatus

__all__ = ["Aggregate", "ItemCounts", "ItemRow", "MetricSummary", "summarise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCounts:
    """How many items ended how. Items of dead shards are in none of these."""

    done: int
    failed: int
    #: Why items failed.
    failures: Mapping[str, int]
    #: Reservations about items that are done all the same.
    reservations: Mapping[str, int]
    #: Metric to reason to number of done items without a value.
    absences: Mapping[str, Mapping[str, int]]
    #: Done items that have both a label and a prediction, and those that agree.
    labelled: int
    correct: int
    #: By class index: predictions, labels, and labels that the prediction met.
    predicted_classes: Mapping[int, int]
    labelled_classes: Mapping[int, int]
    correct_classes: Mapping[int, int]

    @property
    def accuracy(self) -> float | None:
        """The share of labelled items whose prediction is their label."""
        return self.correct / self.labelled if self.labelled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSummary:
    """One column of numbers: centre, spread, uncertainty and shape.

    Quantiles interpolate linearly; `std` is the sample standard deviation.
    """

    n: int
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    p05: float | None = None
    p25: float | None = None
    median: float | None = None
    p75: float | None = None
    p95: float | None = None
    max: float | None = None
    #: The 95 % interval of the mean; None for fewer than two values.
    interval_low: float | None = None
    interval_high: float | None = None
    interval_method: str | None = None
    histogram_edges: tuple[float, ...] = ()
    histogram_counts: tuple[int, ...] = ()


class Aggregate:
    """The running totals of one run.

    Args:
        seed: Decides the random gallery items and the bootstrap.
        gallery_size: Items in each group of the gallery.
        rankings: Values to rank by, in order of preference.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        gallery_size: int = 4,
        rankings: Sequence[Ranking] = DEFAULT_RANKINGS,
    ) -> None:
        self._seed = seed
        self._last_index = -1
        self._status: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._reservations: Counter[str] = Counter()
        self._absences: dict[str, Counter[str]] = {}
        self._values: dict[str, array[float]] = {}
        self._labelled = 0
        self._correct = 0
        self._predicted_classes: Counter[int] = Counter()
        self._labelled_classes: Counter[int] = Counter()
        self._correct_classes: Counter[int] = Counter()
        self._picker = GalleryPicker(seed=seed, size=gallery_size, rankings=rankings)

    def add(self, row: ItemRow) -> None:
        """Count one item.

        Raises:
            ValueError: the item does not come after the one before it, or a number
                is NaN or infinite.
        """
        if row.item_index <= self._last_index:
            raise ValueError(
                f"expected items in manifest order, got item {row.item_index} after "
                f"item {self._last_index}"
            )
        self._last_index = row.item_index
        self._status[row.status] += 1
        if row.status != ItemStatus.DONE:
            self._failures[row.reason or "unknown"] += 1
            return
        if row.reason is not None:
            self._reservations[row.reason] += 1
        self._add_values(row)
        self._add_classes(row)
        self._picker.add(row)

    def _add_values(self, row: ItemRow) -> None:
        for name, value in (
            *row.metrics.items(),
            (SCORE, row.score),
            (KEEP_ACHIEVED, row.keep_achieved),
        ):
            if value is None:
                continue
            if not math.isfinite(value):
                raise ValueError(
                    f"expected finite numbers, got {value} as {name} of item "
                    f"{row.item_index}; a value that is absent needs a reason"
                )
            self._values.setdefault(name, array("d")).append(value)
        for name, reason in row.absences.items():
            self._absences.setdefault(name, Counter())[reason] += 1

    def _add_classes(self, row: ItemRow) -> None:
        if row.predicted is None:
            return
        self._predicted_classes[row.predicted] += 1
        if row.label is None:
            return
        self._labelled += 1
        self._labelled_classes[row.label] += 1
        if row.predicted == row.label:
            self._correct += 1
            self._correct_classes[row.label] += 1

    def counts(self) -> ItemCounts:
        """Return how many items ended how, so far."""
        return ItemCounts(
            done=self._status[ItemStatus.DONE],
            failed=self._status.total() - self._status[ItemStatus.DONE],
            failures=dict(self._failures),
            reservations=dict(self._reservations),
            absences={name: dict(why) for name, why in self._absences.items()},
            labelled=self._labelled,
            correct=self._correct,
            predicted_classes=dict(self._predicted_classes),
            labelled_classes=dict(self._labelled_classes),
            correct_classes=dict(self._correct_classes),
        )

    def summaries(self) -> dict[str, MetricSummary]:
        """Return the summary of every column, by name; empty columns included.

        A metric that no item has, but that some item says why it lacks, has n = 0.
        """
        names = sorted(self._values.keys() | self._absences.keys())
        empty: array[float] = array("d")
        return {
            name: summarise(self._values.get(name, empty), seed=self._seed)
            for name in names
        }

    def gallery(self) -> Gallery:
        """Return the items to show: best, worst, and some of the others."""
        return self._picker.gallery()


def summarise(values: "array[float]", *, seed: int = 0) -> MetricSummary:
    """Return the summary of the values, with a 95 % interval of their mean."""
    from explain.statistics import (  # noqa: PLC0415 - numpy, at the end of a run
        bootstrap_mean_interval,
        describe,
        histogram,
    )

    if not values:
        return MetricSummary(n=0)
    column = describe(values)
    if len(values) > 1 and column.min == column.max:
        return _constant(values)
    interval = bootstrap_mean_interval(values, seed=seed)
    bars = histogram(values, bins=_bin_count(len(values)))
    return MetricSummary(
        n=column.n,
        mean=column.mean,
        std=column.std,
        min=column.min,
        p05=column.p05,
        p25=column.p25,
        median=column.median,
        p75=column.p75,
        p95=column.p95,
        max=column.max,
        interval_low=interval.low if interval else None,
        interval_high=interval.high if interval else None,
        interval_method=interval.method if interval else None,
        histogram_edges=bars.edges,
        histogram_counts=bars.counts,
    )


def _constant(values: "array[float]") -> MetricSummary:
    """Return the summary of equal values, into which summing would round a spread."""
    value = values[0]
    return MetricSummary(
        n=len(values),
        mean=value,
        std=0.0,
        min=value,
        p05=value,
        p25=value,
        median=value,
        p75=value,
        p95=value,
        max=value,
        interval_low=value,
        interval_high=value,
        interval_method="all values are equal",
        histogram_edges=(value, value),
        histogram_counts=(len(values),),
    )


def _bin_count(n: int) -> int:
    """Return the bins of a histogram of n values: Rice's rule, within 5 and 40."""
    return min(40, max(5, round(2 * math.cbrt(n))))

# SPDX-License-Identifier: Apache-2.0
"""What a whole run says, gathered from its items one at a time.

Items arrive in manifest order and are forgotten at once, except for a handful that may
be shown in the gallery; each measured value costs eight bytes. The same items give the
same result on every machine. Importing this module imports neither numpy nor torch.
"""

import hashlib
import heapq
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from storage.states import ItemStatus

#: Columns of an item that are summarised like metrics, beside the metrics.
SCORE = "score"
KEEP_ACHIEVED = "keep_achieved"

GalleryGroup = Literal["best", "worst", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """What aggregation needs to know of one item."""

    item_index: int
    item_id: str
    status: str
    reason: str | None = None
    predicted: int | None = None
    target: int | None = None
    label: int | None = None
    score: float | None = None
    keep_requested: float | None = None
    keep_achieved: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    absences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The value by which items are called best and worst."""

    name: str
    higher_is_better: bool

    def value(self, row: ItemRow) -> float | None:
        """Return the ranked value of the item, or None where it has none."""
        return row.score if self.name == SCORE else row.metrics.get(self.name)

    def badness(self, value: float) -> float:
        """Return a number that is greater for a worse item."""
        return -value if self.higher_is_better else value


#: In order of preference: the first that any item has is used.
DEFAULT_RANKINGS = (
    Ranking(name="deletion_auc", higher_is_better=False),
    Ranking(name=SCORE, higher_is_better=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryPick:
    """An item chosen for the gallery, and why."""

    group: GalleryGroup
    row: ItemRow
    #: The ranked value; None for a random pick that has none.
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """The chosen items; `ranking` is None when no item had a value to rank by."""

    ranking: Ranking | None
    picks: tuple[GalleryPick, ...]


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
        self._picker = _Picker(seed=seed, size=gallery_size, rankings=rankings)

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


class _Picker:
    """Chooses gallery items while they stream past, in bounded memory.

    Best and worst are heaps a ranking. The random items are those with the least
    SHA-256 of (seed, item index): every set of items is equally likely, and neither
    the order nor the cutting into shards matters.
    """

    def __init__(self, *, seed: int, size: int, rankings: Sequence[Ranking]) -> None:
        self._seed = seed
        self._size = size
        self._rankings = tuple(rankings)
        # One order of all items, by badness and then index, seen from its two ends:
        # so best and worst cannot meet, even where values are equal.
        self._best: list[_Heap] = [[] for _ in rankings]
        self._worst: list[_Heap] = [[] for _ in rankings]
        self._ranked = [0 for _ in rankings]
        self._random: _Heap = []

    def add(self, row: ItemRow) -> None:
        """Consider one item that is done."""
        index = row.item_index
        for place, ranking in enumerate(self._rankings):
            value = ranking.value(row)
            if value is None:
                continue
            self._ranked[place] += 1
            badness = ranking.badness(value)
            _keep(self._best[place], (-badness, -index, row), self._size)
            _keep(self._worst[place], (badness, index, row), self._size)
        # Thrice the size, because those shown as best or worst are passed over.
        _keep(self._random, (-self._draw(index), -index, row), 3 * self._size)

    def gallery(self) -> Gallery:
        """Return the choice among the items considered so far."""
        place = next((i for i, count in enumerate(self._ranked) if count), None)
        best: list[ItemRow] = []
        worst: list[ItemRow] = []
        ranking = None
        if place is not None:
            ranking = self._rankings[place]
            # No item is both: with few items the best half is best.
            room = self._ranked[place]
            best = _descending(self._best[place])[: (room + 1) // 2]
            worst = _descending(self._worst[place])[: room - len(best)]
        shown = {row.item_index for row in (*best, *worst)}
        others = [
            row for row in _descending(self._random) if row.item_index not in shown
        ][: self._size]
        groups: tuple[tuple[GalleryGroup, list[ItemRow]], ...] = (
            ("best", best),
            ("worst", worst),
            ("random", others),
        )
        return Gallery(
            ranking=ranking,
            picks=tuple(
                GalleryPick(
                    group=group,
                    row=row,
                    value=ranking.value(row) if ranking else None,
                )
                for group, rows in groups
                for row in rows
            ),
        )

    def _draw(self, index: int) -> float:
        digest = hashlib.sha256(f"gallery:{self._seed}:{index}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48


_Entry = tuple[float, int, ItemRow]
_Heap = list[_Entry]


def _keep(heap: _Heap, entry: _Entry, size: int) -> None:
    """Leave the `size` greatest entries in the heap; indices differ, so rows never."""
    if len(heap) < size:
        heapq.heappush(heap, entry)
    elif heap and entry > heap[0]:
        heapq.heapreplace(heap, entry)


def _descending(heap: _Heap) -> list[ItemRow]:
    return [entry[2] for entry in sorted(heap, key=lambda e: e[:2], reverse=True)]

# SPDX-License-Identifier: Apache-2.0
"""What a whole run says, gathered from its items one at a time.

Items arrive in manifest order and are forgotten at once, except for a handful that may
be shown in the gallery. A value costs eight bytes for each of the first 100,000 items
and nothing beyond; see `pipeline.breakdown` for what subjects cost. The same items give
the same result on every machine. Importing this module imports neither numpy nor torch.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.breakdown import Breakdown, Chunk, Part
from pipeline.gallery_choice import DEFAULT_RANKINGS, Gallery, GalleryPicker, Ranking
from pipeline.group_outcomes import GroupOutcomes
from pipeline.item_counts import ItemCounts
from pipeline.item_row import KEEP_ACHIEVED, SCORE, ItemRow
from pipeline.metric_summary import MetricSummary, summarise, summary_of
from storage.states import ItemStatus

if TYPE_CHECKING:
    from explain.statistics import ColumnAggregate, Interval, Moments

__all__ = ["Aggregate", "ItemCounts", "ItemRow", "MetricSummary", "summarise"]

#: Items that wait to become columns; chunks of one size give the same bits everywhere.
CHUNK = 4096
#: The dimension of the classes that are explained, beside those of group columns.
BY_CLASS = "class"
#: The one part of the dimension of all items.
ALL = "all"


class Aggregate:
    """The running totals of one run.

    Args:
        seed: Decides the random gallery items and the bootstrap.
        gallery_size: Items in each group of the gallery.
        rankings: Values to rank by, in order of preference.
        groups: Columns to break values down by, beside the explained class.
        subjects: Whether items are about subjects, who are then drawn as a whole.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        gallery_size: int = 4,
        rankings: Sequence[Ranking] = DEFAULT_RANKINGS,
        groups: Sequence[str] = (),
        subjects: bool = False,
    ) -> None:
        self._seed = seed
        self._subjects = subjects
        self._groups = tuple(groups)
        self._whole = Breakdown()
        self._breakdowns = {
            name: Breakdown() for name in (BY_CLASS, *(f"group:{g}" for g in groups))
        }
        #: Every value of each group column, also of items that all failed.
        self._members: dict[str, set[Part]] = {f"group:{g}": set() for g in groups}
        self._outcomes = GroupOutcomes(groups)
        self._waiting: list[ItemRow] = []
        self._last_index = -1
        self._status: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._reservations: Counter[str] = Counter()
        self._absences: dict[str, Counter[str]] = {}
        self._columns: dict[str, ColumnAggregate] = {}
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
        self._outcomes.add(row)
        for group in self._groups:
            if group in row.groups:
                self._members[f"group:{group}"].add(row.groups[group])
        if row.status != ItemStatus.DONE:
            self._failures[row.reason or "unknown"] += 1
            return
        if row.reason is not None:
            self._reservations[row.reason] += 1
        self._check_values(row)
        self._add_classes(row)
        self._picker.add(row)
        self._waiting.append(row)
        if len(self._waiting) == CHUNK:
            self._flush()

    def _check_values(self, row: ItemRow) -> None:
        for name, value in _values(row):
            if not math.isfinite(value):
                raise ValueError(
                    f"expected finite numbers, got {value} as {name} of item "
                    f"{row.item_index}; a value that is absent needs a reason"
                )
        for name, reason in row.absences.items():
            self._absences.setdefault(name, Counter())[reason] += 1

    def _flush(self) -> None:
        """What waited is in the columns."""
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        from explain.statistics import ColumnAggregate  # noqa: PLC0415 - numpy

        chunk = _chunk(rows, subjects=self._subjects)
        for name, (_, values) in chunk.values.items():
            self._columns.setdefault(name, ColumnAggregate()).extend(values)
        self._whole.extend([ALL] * len(rows), chunk)
        self._breakdowns[BY_CLASS].extend([row.target for row in rows], chunk)
        for group in self._groups:
            parts: list[Part | None] = [row.groups.get(group) for row in rows]
            self._breakdowns[f"group:{group}"].extend(parts, chunk)

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
            groups=self._outcomes.found(),
        )

    def summaries(self) -> dict[str, MetricSummary]:
        """Return the summary of every column, by name; empty columns included.

        A metric that no item has, but that some item says why it lacks, has n = 0.
        """
        self._flush()
        from explain.statistics import ColumnAggregate  # noqa: PLC0415 - numpy

        names = sorted(self._columns.keys() | self._absences.keys())
        return {
            name: summary_of(
                self._columns.get(name, ColumnAggregate()), self.interval(name)
            )
            for name in names
        }

    def interval(self, name: str, *, confidence: float = 0.95) -> "Interval | None":
        """Return the interval of a value's mean over all items, None where none is.

        Subjects are drawn as a whole where the audit names them.
        """
        self._flush()
        column = self._columns.get(name)
        if column is None:
            return None
        if self._subjects:
            return self._whole.bootstrap(
                name, ALL, confidence=confidence, seed=self._seed
            )
        return column.interval(confidence=confidence, seed=self._seed)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What values are broken down by: `class`, and `group:<column>`."""
        return tuple(self._breakdowns)

    def breakdown(self, dimension: str) -> Breakdown:
        """Return the values of the items so far by the parts of a dimension."""
        self._flush()
        return self._breakdowns[dimension]

    def parts(self, dimension: str) -> list[Part]:
        """Return the parts of a dimension that items belong to, failed ones too.

        The class of an item that failed is not known.
        """
        found = set(self.breakdown(dimension).all_parts())
        return sorted(found | self._members.get(dimension, set()), key=str)

    def moments(self, name: str) -> "Moments":
        """Return the moments of a value over all items."""
        self._flush()
        return self._whole.moments(name, ALL)

    def design_effect(self, name: str) -> float:
        """Return by how much repeated subjects multiply the variance of a mean."""
        self._flush()
        return self._whole.design_effect(name, ALL)

    def gallery(self) -> Gallery:
        """Return the items to show: best, worst, and some of the others."""
        return self._picker.gallery()


def _values(row: ItemRow) -> list[tuple[str, float]]:
    """Return the numbers of an item by the names of their columns."""
    found = list(row.metrics.items())
    if row.score is not None:
        found.append((SCORE, row.score))
    if row.keep_achieved is not None:
        found.append((KEEP_ACHIEVED, row.keep_achieved))
    return found


def _chunk(rows: Sequence[ItemRow], *, subjects: bool) -> Chunk:
    """Return the items as columns."""
    import numpy as np  # noqa: PLC0415

    places: dict[str, list[int]] = {}
    numbers: dict[str, list[float]] = {}
    for place, row in enumerate(rows):
        for name, value in _values(row):
            places.setdefault(name, []).append(place)
            numbers.setdefault(name, []).append(value)
    return Chunk(
        subjects=[row.subject_token for row in rows] if subjects else None,
        items=[row.item_index for row in rows],
        values={
            name: (np.array(places[name]), np.array(numbers[name], dtype=np.float64))
            for name in numbers
        },
    )

# SPDX-License-Identifier: Apache-2.0
"""Which items of a run are shown: best, worst, and some drawn at random."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.item_row import SCORE, ItemRow

GalleryGroup = Literal["best", "worst", "random"]


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


class GalleryPicker:
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

# SPDX-License-Identifier: Apache-2.0
"""Values by class or group, with intervals that know whose items they are.

Nothing is kept of an item. A part costs 32 bytes for each value; where the audit names
subjects, each subject in a part costs about 200 bytes and 16 more for each value, so a
million subjects with ten values take about 0.4 GB. Importing this imports no numpy.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explain.statistics import ClusterSums, Interval, Moments
    from explain.statistics.grouped import Codes, GroupedMoments, GroupedSums
    from explain.statistics.summaries import Values

#: Fewer independent values than this have no interval in a table.
FEWEST_FOR_INTERVAL = 8
#: Parts with fewer are marked: their numbers are close to noise.
FEW = 30

#: A class index, or the value (or token) of a group column.
Part = int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFigures:
    """One value over the items of one part.

    Attributes:
        part: The class or group.
        n: Items with the value.
        mean: Of these.
        std: Of these; None for a single one.
        independent: Subjects behind them, or the values themselves.
        interval: The 95 % interval of the mean; None where too few stand behind it.
    """

    part: Part
    n: int
    mean: float
    std: float | None
    independent: int
    interval: "Interval | None"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Chunk:
    """Some items in manifest order, as columns.

    Attributes:
        subjects: Whom each is about; None where the audit names no subjects.
        items: The manifest position of each.
        values: Value name to the places of the items that have it, and the numbers.
    """

    subjects: Sequence[str | None] | None
    items: Sequence[int]
    values: Mapping[str, tuple["Codes", "Values"]]


class Breakdown:
    """Moments of every value by part, and sums by subject within each part."""

    def __init__(self) -> None:
        self._parts: dict[Part, int] = {}
        self._moments: dict[str, GroupedMoments] = {}
        #: Part and subject to the number of their cell.
        self._cells: dict[int, int] = {}
        self._cell_parts: list[int] = []
        self._sums: dict[str, GroupedSums] = {}
        self._by_subject = False

    def extend(self, parts: Sequence[Part | None], chunk: Chunk) -> None:
        """The parts are longer by the items; those without a part are left out."""
        import numpy as np  # noqa: PLC0415

        from explain.statistics.grouped import GroupedMoments, GroupedSums  # noqa: PLC0415

        codes = np.array([self._code(part) for part in parts], dtype=np.int64)
        cells = None
        if chunk.subjects is not None:
            self._by_subject = True
            cells = self._cells_of(codes.tolist(), chunk)
        for name, (places, values) in chunk.values.items():
            held = codes[places] >= 0
            at, numbers = places[held], values[held]
            self._moments.setdefault(name, GroupedMoments()).extend(codes[at], numbers)
            if cells is not None:
                self._sums.setdefault(name, GroupedSums()).extend(cells[at], numbers)

    def _code(self, part: Part | None) -> int:
        return -1 if part is None else self._parts.setdefault(part, len(self._parts))

    def _cells_of(self, codes: list[int], chunk: Chunk) -> "Codes":
        import numpy as np  # noqa: PLC0415

        found = np.full(len(codes), -1, dtype=np.int64)
        for place, (code, subject) in enumerate(
            zip(codes, chunk.subjects or (), strict=True)
        ):
            if code < 0:
                continue
            key = (code << 64) + _number(subject, chunk.items[place])
            cell = self._cells.setdefault(key, len(self._cells))
            if cell == len(self._cell_parts):
                self._cell_parts.append(code)
            found[place] = cell
        return found

    def parts(self, name: str) -> list[Part]:
        """Return the parts in which some item has the value, the largest first."""
        moments = self._moments.get(name)
        if moments is None:
            return []
        sizes = {part: moments.at(code).n for part, code in self._parts.items()}
        held = [part for part, n in sizes.items() if n]
        return sorted(held, key=lambda part: (-sizes[part], str(part)))

    def all_parts(self) -> list[Part]:
        """Return every part that some item belongs to, in the order of appearance."""
        return list(self._parts)

    def moments(self, name: str, part: Part) -> "Moments":
        """Return the moments of a value in a part, those of nothing where it has none.

        A part that no explained item belongs to has none either.
        """
        from explain.statistics import Moments  # noqa: PLC0415

        if name not in self._moments or part not in self._parts:
            return Moments()
        return self._moments[name].at(self._parts[part])

    def figures(self, name: str, part: Part, confidence: float = 0.95) -> PartFigures:
        """Return what is to be said of a value in a part that has it."""
        moments = self.moments(name, part)
        interval = self.interval(name, part, confidence=confidence)
        independent = self.independent(name, part)
        return PartFigures(
            part=part,
            n=moments.n,
            mean=moments.mean,
            std=moments.std,
            independent=independent,
            interval=interval if independent >= FEWEST_FOR_INTERVAL else None,
        )

    def independent(self, name: str, part: Part) -> int:
        """Return how many subjects, or values, stand behind a value in a part."""
        if not self._by_subject:
            return self.moments(name, part).n
        return len(self._of(name, part).counts)

    def interval(
        self, name: str, part: Part, *, confidence: float
    ) -> "Interval | None":
        """Return the interval of the mean from moments, by subject where there are."""
        from explain.statistics import moment_interval  # noqa: PLC0415

        if self._by_subject:
            return self._of(name, part).interval(confidence=confidence)
        return moment_interval(self.moments(name, part), confidence=confidence)

    def bootstrap(
        self, name: str, part: Part, *, confidence: float, seed: int
    ) -> "Interval | None":
        """Return the interval of the mean by drawing subjects; there must be some."""
        from explain.statistics.bootstrap import cluster_interval  # noqa: PLC0415

        return cluster_interval(self._of(name, part), confidence=confidence, seed=seed)

    def design_effect(self, name: str, part: Part) -> float:
        """Return by how much repeated subjects multiply the mean's variance."""
        std = self.moments(name, part).std
        if not self._by_subject or not std:
            return 1.0
        return self._of(name, part).design_effect(std * std)

    def _of(self, name: str, part: Part) -> "ClusterSums":
        import numpy as np  # noqa: PLC0415

        parts = np.asarray(self._cell_parts, dtype=np.int64)
        return self._sums[name].of(np.flatnonzero(parts == self._parts[part]))


def _number(subject: str | None, item_index: int) -> int:
    """Return a number below 2^64 for a subject; an item without one is its own.

    Tokens are random, so that of a million subjects two share a number with a
    probability of one in ten million.
    """
    if subject is None:
        return (1 << 63) + item_index
    digest = hashlib.blake2b(subject.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1

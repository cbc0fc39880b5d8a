# SPDX-License-Identifier: Apache-2.0
"""A column of numbers that comes in chunks or shards: exact while it is short.

Count, mean, deviation, least and greatest are exact at any length. Quantiles are exact
up to a limit, and beyond it those of a sketch that states its error.
"""

import numpy as np
import numpy.typing as npt

from explain.statistics.bootstrap import BOOTSTRAP_LIMIT, bootstrap_mean_interval
from explain.statistics.moments import Moments, moment_interval
from explain.statistics.sketch import QuantileSketch
from explain.statistics.summaries import (
    Histogram,
    Interval,
    Summary,
    Values,
    describe,
    finite,
    histogram,
)

#: Values that are kept as they are, 0.8 MB; a longer column becomes a sketch.
EXACT_LIMIT = 100_000


class ColumnAggregate:
    """Count, moments, ends and distribution of a column in bounded memory.

    Chunks must come in one order, and shards be merged in theirs: then the same
    column gives the same bits.
    """

    def __init__(self) -> None:
        self.moments = Moments()
        self._least = np.inf
        self._greatest = -np.inf
        self._kept: list[Values] | None = []
        self._sketch = QuantileSketch()

    def extend(self, values: npt.ArrayLike) -> None:
        """The column is longer by these values.

        Raises:
            InvalidInputError: one of them is NaN or infinite.
        """
        column = finite(values)
        if not len(column):
            return
        self.moments = self.moments.merged(Moments.of(column))
        self._least = min(self._least, float(column.min()))
        self._greatest = max(self._greatest, float(column.max()))
        if self._kept is not None:
            self._kept.append(column)
            self._shorten()
        else:
            self._sketch.extend(column)

    def merge(self, other: "ColumnAggregate") -> None:
        """The column is longer by the other one, which stays as it is."""
        if not other.n:
            return
        self.moments = self.moments.merged(other.moments)
        self._least = min(self._least, other._least)  # noqa: SLF001 - its own kind
        self._greatest = max(self._greatest, other._greatest)  # noqa: SLF001
        theirs = other._kept  # noqa: SLF001
        if self._kept is not None and theirs is not None:
            self._kept += theirs
            self._shorten()
            return
        if self._kept is not None:
            self._sketch_kept()
        if theirs is None:
            self._sketch.merge(other._sketch)  # noqa: SLF001
        else:
            for chunk in theirs:
                self._sketch.extend(chunk)

    def _shorten(self) -> None:
        if self.n > EXACT_LIMIT:
            self._sketch_kept()

    def _sketch_kept(self) -> None:
        for chunk in self._kept or []:
            self._sketch.extend(chunk)
        self._kept = None

    @property
    def n(self) -> int:
        """How many values there are."""
        return self.moments.n

    @property
    def is_exact(self) -> bool:
        """Whether the quantiles are those of the values themselves."""
        return self._kept is not None

    @property
    def rank_error(self) -> float:
        """The most by which the rank of a quantile can be wrong, as a fraction of n."""
        return 0.0 if self.is_exact else self._sketch.rank_error

    def values(self) -> Values | None:
        """Return the values while all of them are kept, None afterwards."""
        if self._kept is None:
            return None
        return np.concatenate([np.empty(0), *self._kept])

    def summary(self) -> Summary:
        """Return count, mean, spread and quantiles."""
        kept = self.values()
        if kept is not None:
            return describe(kept)
        quantiles = self._sketch.quantiles([0.05, 0.25, 0.5, 0.75, 0.95])
        p05, p25, median, p75, p95 = (float(value) for value in quantiles)
        return Summary(
            n=self.n,
            mean=self.moments.mean,
            std=self.moments.std,
            min=self._least,
            p05=p05,
            p25=p25,
            median=median,
            p75=p75,
            p95=p95,
            max=self._greatest,
        )

    def histogram(self, bins: int) -> Histogram:
        """Return counts in equally wide bins; beyond the limit they are the sketch's.

        They sum to n all the same.
        """
        kept = self.values()
        if kept is not None:
            return histogram(kept, bins)
        values, weights = self._sketch.weighted()
        counts, edges = np.histogram(
            values, bins=bins, range=(self._least, self._greatest), weights=weights
        )
        return Histogram(
            edges=tuple(float(edge) for edge in edges),
            counts=tuple(int(count) for count in counts),
        )

    def interval(self, *, confidence: float = 0.95, seed: int = 0) -> Interval | None:
        """Return the interval of the mean of independent values."""
        kept = self.values()
        if kept is not None and len(kept) <= BOOTSTRAP_LIMIT:
            return bootstrap_mean_interval(kept, confidence=confidence, seed=seed)
        return moment_interval(self.moments, confidence=confidence)

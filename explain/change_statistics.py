# SPDX-License-Identifier: Apache-2.0
"""How two columns of numbers differ: means, distributions, classes. No torch here.

Columns of any length pass through in chunks: moments are exact, and a sample of at most
10,000 values stands for the distribution. A column that is not longer is its own
sample, so that all is exact there.
"""

from collections.abc import Mapping
from math import log, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from explain.change_values import (
    FEWEST_PAIRS,
    PSI_PRIOR,
    SAMPLE,
    MeanChange,
    SharedHistogram,
)
from explain.errors import InvalidInputError
from explain.statistics import BOOTSTRAP_LIMIT, Interval, bootstrap_mean_interval

Values = npt.NDArray[np.float64]

#: Random words that are drawn at a time.
_BLOCK = 4096


class ColumnStream:
    """Count, mean, spread and a sample of a column that comes in chunks.

    The sample is uniform without replacement (Vitter's algorithm R); its draws are
    counter-based, so that the same column gives the same sample.

    Source: Chan, Golub and LeVeque 1979 (moments of merged chunks); Vitter 1985,
    "Random sampling with a reservoir".
    """

    def __init__(self, seed: int, number: int) -> None:
        """Begin an empty column.

        Args:
            seed: Of the run.
            number: Tells this column's draws from those of others.
        """
        self._key = np.array([seed, number], dtype=np.uint64)
        self._kept = np.empty(SAMPLE)
        self.n = 0
        self._mean = 0.0
        self._squares = 0.0

    def extend(self, values: npt.ArrayLike) -> None:
        """The column is longer by these values.

        Raises:
            InvalidInputError: one of them is NaN or infinite.
        """
        chunk = np.asarray(values, dtype=np.float64).reshape(-1)
        if not len(chunk):
            return
        if not np.isfinite(chunk).all():
            raise InvalidInputError("Expected finite values, got one that is not.")
        self._sample(chunk)
        mean = float(chunk.mean())
        squares = float(((chunk - mean) ** 2).sum())
        total = self.n + len(chunk)
        shift = mean - self._mean
        self._squares += squares + shift * shift * self.n * len(chunk) / total
        self._mean += shift * len(chunk) / total
        self.n = total

    def _sample(self, chunk: Values) -> None:
        room = max(0, SAMPLE - self.n)
        self._kept[self.n : self.n + min(room, len(chunk))] = chunk[:room]
        rest = chunk[room:]
        if not len(rest):
            return
        first = self.n + len(chunk) - len(rest)
        places = self._words(first, len(rest)) % np.arange(
            first + 1, first + len(rest) + 1, dtype=np.uint64
        )
        for hit in np.flatnonzero(places < SAMPLE):
            self._kept[int(places[hit])] = rest[hit]

    def _words(self, first: int, count: int) -> npt.NDArray[np.uint64]:
        """Return the random words of places in the column, however it is cut."""
        blocks = []
        for block in range(first // _BLOCK, (first + count - 1) // _BLOCK + 1):
            counter = np.array([0, 0, 0, block], dtype=np.uint64)
            generator = np.random.Philox(key=self._key, counter=counter)
            blocks.append(generator.random_raw(_BLOCK))
        start = first % _BLOCK
        return np.concatenate(blocks)[start : start + count]

    @property
    def mean(self) -> float | None:
        """The exact mean, None of an empty column."""
        return self._mean if self.n else None

    @property
    def variance(self) -> float:
        """The sample variance (n - 1), zero below two values."""
        return self._squares / (self.n - 1) if self.n > 1 else 0.0

    @property
    def sample(self) -> Values:
        """The values that stand for the column, all of them while it is short."""
        return self._kept[: min(self.n, SAMPLE)]

    @property
    def is_whole(self) -> bool:
        """Whether the sample is the whole column."""
        return self.n <= SAMPLE


def mean_change(
    before: ColumnStream, after: ColumnStream, differences: ColumnStream, *, seed: int
) -> MeanChange | None:
    """Return how far the mean moved, None where a side has no value.

    Paired, from the differences within items, where there are at least 30 of these;
    else from the two columns as independent samples. Percentile bootstrap up to 10,000
    values, beyond that the normal interval.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 8 and 13.
    """
    if before.mean is None or after.mean is None:
        return None
    if differences.n >= FEWEST_PAIRS:
        return _paired(differences, seed)
    return _unpaired(before, after, seed)


def _paired(differences: ColumnStream, seed: int) -> MeanChange:
    value = differences.mean or 0.0
    if differences.is_whole:
        interval = bootstrap_mean_interval(differences.sample, seed=seed)
    else:
        error = sqrt(differences.variance / differences.n)
        interval = _normal(value, error, differences.n)
    return MeanChange(
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        basis="paired",
        n=differences.n,
        method=interval.method if interval else "none: a single pair",
    )


def _unpaired(before: ColumnStream, after: ColumnStream, seed: int) -> MeanChange:
    value = (after.mean or 0.0) - (before.mean or 0.0)
    n = before.n + after.n
    low = high = None
    method = "none: fewer than two values on a side"
    if before.n > 1 and after.n > 1:
        if before.is_whole and after.is_whole:
            interval = _bootstrap(before.sample, after.sample, seed)
        else:
            error = sqrt(before.variance / before.n + after.variance / after.n)
            interval = _normal(value, error, n)
        low, high, method = interval.low, interval.high, interval.method
    return MeanChange(
        value=value, low=low, high=high, basis="unpaired", n=n, method=method
    )


def _normal(value: float, error: float, n: int) -> Interval:
    reach = NormalDist().inv_cdf(0.975) * error
    return Interval(
        low=value - reach,
        high=value + reach,
        method=f"normal, more than {BOOTSTRAP_LIMIT} values",
        n=n,
    )


def _bootstrap(
    before: Values, after: Values, seed: int, replicates: int = 2000
) -> Interval:
    """Return the interval of the difference of means, each side drawn by itself."""
    random = np.random.Generator(np.random.Philox(seed))
    # As for one column: the order of the values does not matter.
    columns = (np.sort(before), np.sort(after))
    moved = np.empty(replicates)
    rows = max(1, 2_000_000 // max(len(column) for column in columns))
    for start in range(0, replicates, rows):
        stop = min(start + rows, replicates)
        means = [
            column[random.integers(len(column), size=(stop - start, len(column)))].mean(
                axis=1
            )
            for column in columns
        ]
        moved[start:stop] = means[1] - means[0]
    low, high = np.quantile(moved, [0.025, 0.975])
    return Interval(
        low=float(low),
        high=float(high),
        method=f"percentile bootstrap of two samples, {replicates} replicates, "
        f"seed {seed}",
        n=len(before) + len(after),
    )


def ks_statistic(before: npt.ArrayLike, after: npt.ArrayLike) -> float | None:
    """Return the two-sample Kolmogorov-Smirnov statistic, None without values.

    It is the largest distance between the two empirical distribution functions, 0 for
    equal and 1 for separate samples.

    Source: Smirnov 1948, "Table for estimating the goodness of fit".
    """
    first = np.sort(np.asarray(before, dtype=np.float64))
    second = np.sort(np.asarray(after, dtype=np.float64))
    if not len(first) or not len(second):
        return None
    places = np.concatenate([first, second])
    one = np.searchsorted(first, places, side="right") / len(first)
    two = np.searchsorted(second, places, side="right") / len(second)
    return float(np.abs(one - two).max())


def population_stability_index(
    before: Mapping[int, int], after: Mapping[int, int]
) -> float | None:
    """Return how far a distribution over classes moved, None without items.

    It is `change_values.PSI_FORMULA`: zero where the shares are the same; by custom
    above 0.1 is worth a look and above 0.25 a marked change.

    Source: Siddiqi 2006, Credit Risk Scorecards, ch. 8.
    """
    classes = sorted(before.keys() | after.keys())
    totals = sum(before.values()), sum(after.values())
    if not all(totals):
        return None
    index = 0.0
    for name in classes:
        p, q = (
            (counts.get(name, 0) + PSI_PRIOR) / (total + PSI_PRIOR * len(classes))
            for counts, total in zip((before, after), totals, strict=True)
        )
        index += (q - p) * log(q / p)
    return index


def shared_histogram(before: Values, after: Values, bins: int) -> SharedHistogram:
    """Return both samples in equally wide bins over what they span together."""
    both = np.concatenate([before, after])
    if not len(both) or both.min() == both.max():
        return SharedHistogram(edges=(), before=(), after=())
    edges = np.histogram_bin_edges(both, bins=bins)
    counts = [np.histogram(values, bins=edges)[0] for values in (before, after)]
    return SharedHistogram(
        edges=tuple(float(edge) for edge in edges),
        before=tuple(int(count) for count in counts[0]),
        after=tuple(int(count) for count in counts[1]),
    )

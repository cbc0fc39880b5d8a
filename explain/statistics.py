# SPDX-License-Identifier: Apache-2.0
"""Summaries of a metric over many items, with their uncertainty. No torch here."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError, InvalidParameterError

#: Above this many values the mean is normal to within plotting accuracy, and
#: resampling would cost seconds for the same digits.
BOOTSTRAP_LIMIT = 10_000

#: Indices drawn at once, so that memory does not grow with the replicates.
_CHUNK = 2_000_000

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval for a mean, and how it was found."""

    low: float
    high: float
    method: str
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a column of numbers looks like; None where too few values exist.

    ``std`` is the sample standard deviation (n - 1); quantiles interpolate
    linearly.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between neighbouring edges; the last bin includes its upper edge."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def bootstrap_mean_interval(
    values: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Return an interval for the mean, or None for fewer than two values.

    Percentile bootstrap with a fixed seed; the order of the values does not
    matter. Above 10,000 values it is the normal interval, and ``method`` says so.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.
    """
    if not 0 < confidence < 1:
        raise InvalidParameterError(
            f"Expected a confidence between 0 and 1, got {confidence}."
        )
    if replicates < 1:
        raise InvalidParameterError(
            f"Expected at least one replicate, got {replicates}."
        )
    column = np.sort(_finite(values))
    n = len(column)
    if n < 2:
        return None
    if n > BOOTSTRAP_LIMIT:
        return _normal_interval(column, confidence)
    means = _resampled_means(column, replicates, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(
        low=float(low),
        high=float(high),
        method=f"percentile bootstrap, {replicates} replicates, seed {seed}",
        n=n,
    )


def describe(values: npt.ArrayLike) -> Summary:
    """Return count, mean, spread and quantiles of the values.

    Raises:
        InvalidInputError: a value is NaN or infinite.
    """
    column = np.sort(_finite(values))
    n = len(column)
    if n == 0:
        return Summary(n=0)
    p05, p25, median, p75, p95 = np.quantile(column, [0.05, 0.25, 0.5, 0.75, 0.95])
    return Summary(
        n=n,
        mean=float(column.mean()),
        std=float(column.std(ddof=1)) if n > 1 else None,
        min=float(column[0]),
        p05=float(p05),
        p25=float(p25),
        median=float(median),
        p75=float(p75),
        p95=float(p95),
        max=float(column[-1]),
    )


def histogram(values: npt.ArrayLike, bins: int) -> Histogram:
    """Return the counts in equally wide bins from the least to the greatest value.

    No values give no bins; equal values share one bin of a unit-wide range.

    Raises:
        InvalidInputError: a value is NaN or infinite.
    """
    if bins < 1:
        raise InvalidParameterError(f"Expected at least one bin, got {bins}.")
    column = _finite(values)
    if len(column) == 0:
        return Histogram(edges=(), counts=())
    counts, edges = np.histogram(column, bins=bins)
    return Histogram(
        edges=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
    )


def _finite(values: npt.ArrayLike) -> Values:
    """Return the values as one float64 column, refusing NaN and infinity."""
    column = np.asarray(values, dtype=np.float64).reshape(-1)
    bad = int((~np.isfinite(column)).sum())
    if bad:
        raise InvalidInputError(
            f"Expected finite values, got {bad} of {len(column)} that are not;"
            f" leave absent values out and count them."
        )
    return column


def _normal_interval(column: Values, confidence: float) -> Interval:
    """Return mean +- z standard errors."""
    n = len(column)
    mean = float(column.mean())
    error = float(column.std(ddof=1)) / sqrt(n)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Interval(
        low=mean - reach,
        high=mean + reach,
        method=f"normal, more than {BOOTSTRAP_LIMIT} values",
        n=n,
    )


def _resampled_means(column: Values, replicates: int, seed: int) -> Values:
    """Return the mean of each replicate, drawn in chunks of bounded memory."""
    random = np.random.Generator(np.random.Philox(seed))
    n = len(column)
    rows = max(1, _CHUNK // n)
    means = np.empty(replicates)
    for start in range(0, replicates, rows):
        stop = min(start + rows, replicates)
        picks = random.integers(n, size=(stop - start, n))
        means[start:stop] = column[picks].mean(axis=1)
    return means

# SPDX-License-Identifier: Apache-2.0
"""What a column of numbers looks like: centre, spread, quantiles and shape."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError, InvalidParameterError

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided confidence interval for a mean, and how it was found.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        method: How it was found, in words for the report.
        n: Values behind it.
        confidence: How often such an interval holds the true mean.
        clusters: Independent units behind it: subjects, or the values themselves.
    """

    low: float
    high: float
    method: str
    n: int
    confidence: float = 0.95
    clusters: int | None = None


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


def describe(values: npt.ArrayLike) -> Summary:
    """Return count, mean, spread and quantiles of the values.

    Raises:
        InvalidInputError: a value is NaN or infinite.
    """
    column = np.sort(finite(values))
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
    column = finite(values)
    if len(column) == 0:
        return Histogram(edges=(), counts=())
    counts, edges = np.histogram(column, bins=bins)
    return Histogram(
        edges=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
    )


def finite(values: npt.ArrayLike) -> Values:
    """Return the values as one float64 column, refusing NaN and infinity."""
    column = np.asarray(values, dtype=np.float64).reshape(-1)
    bad = int((~np.isfinite(column)).sum())
    if bad:
        raise InvalidInputError(
            f"Expected finite values, got {bad} of {len(column)} that are not;"
            f" leave absent values out and count them."
        )
    return column

# SPDX-License-Identifier: Apache-2.0
"""What a report says of one column of numbers. Importing this imports no numpy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explain.statistics import ColumnAggregate, Interval


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
    #: The 95 % interval of the mean; None for fewer than two independent values.
    interval_low: float | None = None
    interval_high: float | None = None
    interval_method: str | None = None
    histogram_edges: tuple[float, ...] = ()
    histogram_counts: tuple[int, ...] = ()
    #: Independent units behind the interval: subjects, or the values themselves.
    independent: int | None = None
    #: The most by which the rank of a quantile can be wrong; None where exact.
    quantile_error: float | None = None


def summary_of(column: "ColumnAggregate", interval: "Interval | None") -> MetricSummary:
    """Return the summary of a column with the interval of its mean."""
    if not column.n:
        return MetricSummary(n=0)
    found = column.summary()
    if column.n > 1 and found.min == found.max:
        return _constant(found.max or 0.0, column.n, interval)
    bars = column.histogram(_bin_count(column.n))
    return MetricSummary(
        n=found.n,
        mean=found.mean,
        std=found.std,
        min=found.min,
        p05=found.p05,
        p25=found.p25,
        median=found.median,
        p75=found.p75,
        p95=found.p95,
        max=found.max,
        interval_low=interval.low if interval else None,
        interval_high=interval.high if interval else None,
        interval_method=interval.method if interval else None,
        histogram_edges=bars.edges,
        histogram_counts=bars.counts,
        independent=interval.clusters if interval else None,
        quantile_error=None if column.is_exact else column.rank_error,
    )


def summarise(values: Sequence[float], *, seed: int = 0) -> MetricSummary:
    """Return the summary of independent values, with a 95 % interval of their mean."""
    from explain.statistics import ColumnAggregate  # noqa: PLC0415 - numpy

    column = ColumnAggregate()
    column.extend(values)
    return summary_of(column, column.interval(seed=seed))


def _constant(value: float, n: int, interval: "Interval | None") -> MetricSummary:
    """Return the summary of equal values, into which summing would round a spread."""
    return MetricSummary(
        n=n,
        mean=value,
        std=0.0,
        min=value,
        p05=value,
        p25=value,
        median=value,
        p75=value,
        p95=value,
        max=value,
        interval_low=value if interval else None,
        interval_high=value if interval else None,
        interval_method="all values are equal" if interval else None,
        histogram_edges=(value, value),
        histogram_counts=(n,),
        independent=interval.clusters if interval else None,
    )


def _bin_count(n: int) -> int:
    """Return the bins of a histogram of n values: Rice's rule, within 5 and 40."""
    return min(40, max(5, round(2 * math.cbrt(n))))

# SPDX-License-Identifier: Apache-2.0
"""Summaries of metrics: what they say, and that they are honest about doubt."""

import math

import numpy as np
import pytest

from explain.errors import InvalidInputError, InvalidParameterError
from explain.statistics import (
    Interval,
    Summary,
    bootstrap_mean_interval,
    describe,
    histogram,
)


def skewed(count: int, seed: int = 0) -> np.ndarray:
    """Return values of a skewed distribution with mean 1."""
    return np.random.default_rng(seed).exponential(size=count)


def test_the_same_seed_gives_the_same_interval_in_any_order() -> None:
    """The result is a function of the values, not of their order or the process."""
    values = skewed(50)
    first = bootstrap_mean_interval(values, seed=3)
    assert first == bootstrap_mean_interval(values[::-1], seed=3)
    assert first != bootstrap_mean_interval(values, seed=4)


@pytest.mark.parametrize("values", [[], [0.4]])
def test_fewer_than_two_values_have_no_interval(values: list[float]) -> None:
    """One value says nothing about its own uncertainty."""
    assert bootstrap_mean_interval(values) is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    """No spread, no doubt that the sample could show."""
    found = bootstrap_mean_interval([0.5, 0.5, 0.5])
    assert isinstance(found, Interval)
    assert (found.low, found.high, found.n) == (0.5, 0.5, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "summarise",
    [bootstrap_mean_interval, describe, lambda values: histogram(values, 4)],
)
def test_absent_values_are_not_averaged_over(summarise: object, bad: float) -> None:
    """NaN and infinity are refused rather than skipped or spread."""
    assert callable(summarise)
    with pytest.raises(InvalidInputError, match="1 of 3 that are not"):
        summarise([0.1, bad, 0.3])


@pytest.mark.parametrize(
    "options", [{"confidence": 1.0}, {"confidence": 0.0}, {"replicates": 0}]
)
def test_an_impossible_interval_is_refused(options: dict[str, float]) -> None:
    """Certainty and no replicates are both errors."""
    with pytest.raises(InvalidParameterError):
        bootstrap_mean_interval([0.1, 0.2], **options)


def test_describe_agrees_with_numpy() -> None:
    """Every field is the one of that name."""
    values = skewed(101)
    found = describe(values)
    assert found.n == 101
    assert math.isclose(found.mean or 0, values.mean(), rel_tol=1e-12)
    assert math.isclose(found.std or 0, values.std(ddof=1), rel_tol=1e-12)
    assert (found.min, found.max) == (values.min(), values.max())
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    assert [found.p05, found.p25, found.median, found.p75, found.p95] == quantiles


def test_describing_nothing_gives_a_count_of_zero_and_no_numbers() -> None:
    """An empty column is reported as empty, not as NaN."""
    assert describe([]) == Summary(n=0)


def test_one_value_has_no_spread() -> None:
    """The sample deviation of one value is unknown, not zero."""
    found = describe([0.25])
    assert (found.mean, found.median, found.std) == (0.25, 0.25, None)


def test_a_histogram_counts_every_value_once() -> None:
    """Edges span the values and counts add up."""
    values = skewed(500)
    found = histogram(values, 12)
    assert sum(found.counts) == 500
    assert len(found.edges) == 13
    assert (found.edges[0], found.edges[-1]) == (values.min(), values.max())


def test_a_histogram_of_nothing_or_of_one_value_is_drawable() -> None:
    """Degenerate columns give no bins, or one filled bin."""
    assert histogram([], 5).counts == ()
    assert sorted(histogram([0.5, 0.5], 3).counts) == [0, 0, 2]


def test_a_histogram_needs_a_bin() -> None:
    """No bins is an error."""
    with pytest.raises(InvalidParameterError):
        histogram([0.1], 0)

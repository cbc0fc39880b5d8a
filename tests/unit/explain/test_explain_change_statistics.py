# SPDX-License-Identifier: Apache-2.0
"""Figures of change equal slow, plain computations of the same."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain.change_statistics import (
    ColumnStream,
    ks_statistic,
    mean_change,
    population_stability_index,
    shared_histogram,
)
from explain.change_values import FEWEST_PAIRS, SAMPLE
from explain.errors import InvalidInputError
from explain.statistics import bootstrap_mean_interval

NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60)


def stream(values: object, *, number: int = 0, chunk: int = 7) -> ColumnStream:
    """Return a column that came in chunks."""
    column, found = np.asarray(values, dtype=np.float64), ColumnStream(0, number)
    for start in range(0, len(column), chunk):
        found.extend(column[start : start + chunk])
    return found


@given(NUMBERS)
def test_moments_of_chunks_are_those_of_the_column(values: list[float]) -> None:
    """Count, mean and variance do not depend on how the column was cut."""
    found = stream(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    plain = np.var(values, ddof=1) if len(values) > 1 else 0.0
    assert found.variance == pytest.approx(plain, rel=1e-9, abs=1e-9)
    assert found.is_whole
    assert list(found.sample) == values


def test_a_sample_of_a_long_column_is_fair_and_fixed() -> None:
    """However it is cut, a long column has one sample, from all parts of it alike."""
    column = np.arange(8 * SAMPLE, dtype=np.float64)
    one, two = stream(column, chunk=2000), stream(column, chunk=777)
    assert not one.is_whole
    assert len(one.sample) == SAMPLE == len(set(one.sample))
    assert np.array_equal(one.sample, two.sample)
    parts, _edges = np.histogram(one.sample, bins=8, range=(0, 8 * SAMPLE))
    # Five standard deviations of a draw without replacement.
    assert np.abs(parts - SAMPLE / 8).max() < 5 * math.sqrt(SAMPLE / 8)
    other = stream(column, number=1, chunk=2000)
    assert not np.array_equal(one.sample, other.sample)


def test_a_column_with_nan_is_refused() -> None:
    """No NaN becomes a figure."""
    with pytest.raises(InvalidInputError):
        ColumnStream(0, 0).extend([0.5, math.nan])


@given(NUMBERS, NUMBERS)
def test_the_ks_statistic_is_the_largest_distance(
    before: list[float], after: list[float]
) -> None:
    """It equals a search over every value of both samples."""
    slow = max(
        abs(
            sum(v <= place for v in before) / len(before)
            - sum(v <= place for v in after) / len(after)
        )
        for place in [*before, *after]
    )
    assert ks_statistic(before, after) == pytest.approx(slow, abs=1e-12)
    assert ks_statistic(before, before) == 0
    assert ks_statistic(before, []) is None


def test_the_stability_index_is_its_formula() -> None:
    """Shares with half an item added to each class, by hand."""
    before, after = {0: 30, 1: 10}, {0: 20, 2: 5}
    p = [30.5 / 41.5, 10.5 / 41.5, 0.5 / 41.5]
    q = [20.5 / 26.5, 0.5 / 26.5, 5.5 / 26.5]
    slow = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert population_stability_index(before, after) == pytest.approx(slow, rel=1e-12)
    assert population_stability_index(before, before) == 0
    assert population_stability_index(before, {}) is None


def test_enough_pairs_are_compared_as_pairs() -> None:
    """From 30 pairs on the interval is that of the mean difference."""
    random = np.random.default_rng(1)
    before = random.normal(0.5, 0.3, 80)
    moved = before[:40] + random.normal(0.05, 0.01, 40)
    differences = moved - before[:40]
    found = mean_change(stream(before), stream(moved), stream(differences), seed=3)
    assert found is not None
    expected = bootstrap_mean_interval(differences, seed=3)
    assert expected is not None
    assert (found.basis, found.n) == ("paired", 40)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.value == pytest.approx(differences.mean(), rel=1e-9)


def test_few_pairs_are_compared_as_two_samples() -> None:
    """Below 30 pairs the two columns are resampled by themselves."""
    random = np.random.default_rng(2)
    before, after = random.normal(0, 1, 50), random.normal(0.5, 2, 90)
    pairs = stream(np.zeros(FEWEST_PAIRS - 1))
    found = mean_change(stream(before), stream(after), pairs, seed=5)
    assert found is not None
    assert found.basis == "unpaired"
    assert found.value == pytest.approx(after.mean() - before.mean(), rel=1e-9)
    slow = np.random.default_rng(9)
    means = [
        slow.choice(after, 90).mean() - slow.choice(before, 50).mean()
        for _ in range(4000)
    ]
    # Two bootstraps of other draws agree to a fraction of the interval.
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.06)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.06)


def test_long_columns_have_the_normal_interval() -> None:
    """Beyond 10,000 values the interval comes from exact moments of all of them."""
    random = np.random.default_rng(4)
    before, after = random.normal(0, 1, 12_000), random.normal(0, 1, 300)
    found = mean_change(stream(before), stream(after), ColumnStream(0, 2), seed=0)
    assert found is not None
    error = math.sqrt(before.var(ddof=1) / 12_000 + after.var(ddof=1) / 300)
    assert found.low is not None
    assert found.value - found.low == pytest.approx(1.959964 * error, rel=1e-5)
    differences = random.normal(0.1, 1, 11_000)
    paired = mean_change(stream(before), stream(after), stream(differences), seed=0)
    assert paired is not None
    assert paired.high is not None
    error = differences.std(ddof=1) / math.sqrt(11_000)
    assert paired.high - paired.value == pytest.approx(1.959964 * error, rel=1e-5)


def test_no_values_are_no_change() -> None:
    """Where a side has no value there is none, where it has one no interval."""
    none, one = ColumnStream(0, 0), stream([1.0])
    assert mean_change(none, one, none, seed=0) is None
    found = mean_change(one, stream([3.0]), none, seed=0)
    assert found is not None
    assert (found.value, found.low, found.high) == (2.0, None, None)


def test_a_shared_histogram_counts_both_in_the_same_bins() -> None:
    """No value is lost; values that are all equal have no histogram."""
    found = shared_histogram(np.array([0.0, 1.0]), np.array([0.5, 2.0, 2.0]), 4)
    assert (sum(found.before), sum(found.after)) == (2, 3)
    assert (found.edges[0], found.edges[-1]) == (0.0, 2.0)
    assert shared_histogram(np.ones(3), np.ones(2), 4).edges == ()

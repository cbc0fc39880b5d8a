# SPDX-License-Identifier: Apache-2.0
"""Intervals of a mean: they agree with others' and hold the truth as often as said."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from explain.errors import InvalidInputError
from explain.statistics import (
    BOOTSTRAP_LIMIT,
    Moments,
    bootstrap_mean_interval,
    cluster_sums,
    moment_interval,
)

#: Fixed before any result was seen; each simulated sample is keyed by it and its place.
SEED = 20_261_125
SIMULATIONS = 2000


def sample(place: int, draw: str, size: int = 100) -> np.ndarray:
    """Return one simulated column."""
    random = np.random.Generator(np.random.Philox(key=[SEED, place]))
    values: np.ndarray = getattr(random, draw)(size=size)
    return values


@pytest.mark.parametrize(("draw", "mean"), [("normal", 0.0), ("exponential", 1.0)])
def test_of_2000_intervals_93_to_97_percent_hold_the_mean(
    draw: str, mean: float
) -> None:
    """The 95 % interval keeps its word on normal and on skewed data at n = 100."""
    hits = 0
    for place in range(SIMULATIONS):
        found = bootstrap_mean_interval(sample(place, draw), replicates=399, seed=place)
        assert found is not None
        assert found.method.startswith("studentised bootstrap, 399")
        hits += found.low <= mean <= found.high
    assert 0.93 <= hits / SIMULATIONS <= 0.97


@pytest.mark.parametrize(("draw", "mean"), [("normal", 0.0), ("exponential", 1.0)])
def test_the_interval_from_moments_keeps_its_word_too(draw: str, mean: float) -> None:
    """What long columns and groups get needs no resampling and no less honesty."""
    found = [
        moment_interval(Moments.of(sample(place, draw))) for place in range(SIMULATIONS)
    ]
    hits = sum(1 for one in found if one and one.low <= mean <= one.high)
    assert 0.93 <= hits / SIMULATIONS <= 0.97


def clustered(place: int, subjects: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return values of subjects that are seen several times, and their subjects."""
    random = np.random.Generator(np.random.Philox(key=[SEED + 1, place]))
    times = random.integers(1, 6, size=subjects)
    own = random.normal(size=subjects)
    names = np.repeat(np.arange(subjects), times)
    return own[names] + 0.5 * random.normal(size=len(names)), names


def test_subjects_are_drawn_and_not_their_photographs() -> None:
    """By subject the interval keeps its word; as if independent it is too narrow."""
    simulations = 500
    hits, naive = 0, 0
    for place in range(simulations):
        values, names = clustered(place)
        found = bootstrap_mean_interval(
            values, subjects=names, replicates=399, seed=place
        )
        plain = bootstrap_mean_interval(values, replicates=399, seed=place)
        assert found is not None
        assert plain is not None
        assert (found.clusters, found.n) == (100, len(values))
        hits += found.low <= 0 <= found.high
        naive += plain.low <= 0 <= plain.high
    # Four standard errors of 500 draws around 0.95.
    assert 0.911 <= hits / simulations <= 0.989
    assert naive / simulations < 0.85


def slow_studentised(values: list[float], replicates: int, seed: int) -> list[float]:
    """Return the studentised interval from its definition, a replicate at a time."""
    column = sorted(values)
    n = len(column)
    random = np.random.Generator(np.random.Philox(seed))
    picks = random.integers(n, size=(replicates, n))

    def mean_and_error(some: list[float]) -> tuple[float, float]:
        mean = sum(some) / n
        squares = sum((value - mean) ** 2 for value in some)
        return mean, (squares / (n - 1) / n) ** 0.5

    mean, error = mean_and_error(column)
    pivots = []
    for row in picks:
        again, its_error = mean_and_error([column[place] for place in row])
        pivots.append((again - mean) / its_error)
    high, low = np.quantile(pivots, [0.975, 0.025])
    return [mean - high * error, mean - low * error]


def test_the_studentised_interval_is_the_one_of_the_books() -> None:
    """A re-implementation from the definition gives the same ends."""
    values = sample(1, "exponential", 40)
    found = bootstrap_mean_interval(values, replicates=200, seed=5)
    assert found is not None
    wanted = slow_studentised(values.tolist(), 200, 5)
    assert [found.low, found.high] == pytest.approx(wanted, rel=1e-9)


def test_subjects_seen_once_are_values() -> None:
    """With one value a subject, both ways give the same interval."""
    values = sample(2, "exponential", 60)
    plain = bootstrap_mean_interval(values, seed=1)
    by_subject = bootstrap_mean_interval(values, subjects=np.arange(60), seed=1)
    assert plain is not None
    assert by_subject is not None
    assert (by_subject.low, by_subject.high) == pytest.approx((plain.low, plain.high))


def test_where_replicates_lack_spread_bca_agrees_with_scipy() -> None:
    """A rare event leaves replicates without one; BCa lands where scipy's does."""
    values = np.array([0.0] * 97 + [1.0, 2.0, 1.5])
    found = bootstrap_mean_interval(values, replicates=9999)
    theirs = stats.bootstrap(
        (values,), np.mean, method="BCa", n_resamples=9999, rng=1
    ).confidence_interval
    assert found is not None
    assert found.method.startswith("BCa bootstrap, 9999 replicates")
    assert found.low == pytest.approx(theirs.low, abs=0.006)
    assert found.high == pytest.approx(theirs.high, abs=0.011)


def test_long_and_very_short_columns_get_the_interval_from_moments() -> None:
    """Beyond 10,000 values, and below 8, nothing is resampled, and it says so."""
    for size in (2, 7, BOOTSTRAP_LIMIT + 1):
        values = sample(3, "exponential", size)
        found = bootstrap_mean_interval(values)
        assert found == moment_interval(Moments.of(np.sort(values)))
        assert found is not None
        assert "Hall" in found.method


def test_at_the_limit_both_ways_agree() -> None:
    """The switch from bootstrap to moments does not jump."""
    values = sample(4, "exponential", BOOTSTRAP_LIMIT)
    one = bootstrap_mean_interval(values)
    two = moment_interval(Moments.of(values))
    assert one is not None
    assert two is not None
    width = two.high - two.low
    assert abs(one.low - two.low) < 0.05 * width
    assert abs(one.high - two.high) < 0.05 * width


def test_without_skewness_moments_give_students_interval() -> None:
    """On symmetric data the corrected interval is the textbook's."""
    values = np.array([-3.0, -1.0, -0.5, 0.5, 1.0, 3.0])
    found = moment_interval(Moments.of(values))
    wanted = stats.t.interval(0.95, 5, loc=0.0, scale=stats.sem(values))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(wanted)


def test_one_subject_has_no_interval_and_order_does_not_matter() -> None:
    """Ten photographs of one person are one witness; items may come in any order."""
    values, names = clustered(7)
    assert bootstrap_mean_interval(values, subjects=np.zeros(len(values))) is None
    shuffled = np.random.default_rng(0).permutation(len(values))
    assert bootstrap_mean_interval(values, subjects=names) == bootstrap_mean_interval(
        values[shuffled], subjects=names[shuffled]
    )
    with pytest.raises(InvalidInputError, match="as many subjects"):
        bootstrap_mean_interval(values, subjects=names[:-1])


def test_the_design_effect_is_one_for_independent_values() -> None:
    """Subjects seen once lose nothing; twins that agree count as one."""
    values = sample(8, "normal", 200)
    alone = cluster_sums(values, np.arange(200))
    assert alone.design_effect(float(values.var(ddof=1))) == pytest.approx(1.0)
    twice = np.repeat(values, 2)
    twins = cluster_sums(twice, np.repeat(np.arange(200), 2))
    assert twins.design_effect(float(twice.var(ddof=1))) == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("split", [1, 3, 50])
def test_merged_moments_are_those_of_the_whole(split: int) -> None:
    """Chan's and Pebay's formulas lose nothing, wherever the column is cut."""
    make: Callable[..., np.ndarray] = np.random.default_rng(0).gamma
    values = 1e6 + make(2.0, size=100)
    merged = Moments.of(values[:split]).merged(Moments.of(values[split:]))
    assert merged.n == 100
    assert merged.mean == pytest.approx(values.mean(), rel=1e-14)
    assert merged.std == pytest.approx(values.std(ddof=1), rel=1e-9)
    assert merged.skewness == pytest.approx(stats.skew(values), rel=1e-6)
    assert Moments().merged(merged) == merged == merged.merged(Moments())

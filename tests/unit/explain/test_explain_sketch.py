# SPDX-License-Identifier: Apache-2.0
"""Columns too long to keep: exact where they say so, and honest about the rest."""

import numpy as np
import pytest

from explain.errors import InvalidInputError
from explain.statistics import EXACT_LIMIT, ColumnAggregate, QuantileSketch, describe

PROBABILITIES = np.array([0.001, 0.05, 0.25, 0.5, 0.75, 0.95, 0.999])


def columns() -> dict[str, np.ndarray]:
    """Return a million values each: random, sorted, reversed, and with many ties."""
    random = np.random.default_rng(7)
    skewed = random.exponential(size=1_000_000)
    return {
        "skewed": skewed,
        "sorted": np.sort(skewed),
        "reversed": np.sort(skewed)[::-1],
        "ties": random.integers(0, 20, size=1_000_000).astype(float),
    }


@pytest.mark.parametrize("name", list(columns()))
def test_the_stated_rank_error_is_never_exceeded(name: str) -> None:
    """Whatever the order and the ties, each quantile's rank is as near as stated."""
    values = columns()[name]
    sketch = QuantileSketch()
    sketch.extend(values)
    ordered = np.sort(values)
    found = sketch.quantiles(PROBABILITIES)
    low = np.searchsorted(ordered, found, side="left") / len(values)
    high = np.searchsorted(ordered, found, side="right") / len(values)
    error = np.maximum(np.maximum(low - PROBABILITIES, PROBABILITIES - high), 0.0)
    assert sketch.rank_error < 0.003
    assert error.max() <= sketch.rank_error + 1e-6
    kept, weights = sketch.weighted()
    assert weights.sum() == len(values)
    assert len(kept) < 50_000


def test_a_short_column_gives_its_own_quantiles() -> None:
    """Nothing is lost before the first level is full."""
    values = np.random.default_rng(1).normal(size=1000)
    sketch = QuantileSketch()
    sketch.extend(values)
    wanted = np.quantile(values, PROBABILITIES)
    assert sketch.quantiles(PROBABILITIES) == pytest.approx(wanted)
    assert sketch.rank_error == 0.0


def of_shards(shards: list[np.ndarray]) -> ColumnAggregate:
    """Return the column of shards that are merged in their order."""
    whole = ColumnAggregate()
    for shard in shards:
        part = ColumnAggregate()
        part.extend(shard)
        whole.merge(part)
    return whole


def test_merged_shards_are_the_column() -> None:
    """Counts, means and ends are exact; quantiles are within the stated error."""
    values = np.random.default_rng(2).lognormal(size=3 * EXACT_LIMIT)
    merged = of_shards(np.array_split(values, 7))
    summary, wanted = merged.summary(), describe(values)
    assert not merged.is_exact
    assert (summary.n, summary.min, summary.max) == (wanted.n, wanted.min, wanted.max)
    assert summary.mean == pytest.approx(wanted.mean, rel=1e-12)
    assert summary.std == pytest.approx(wanted.std, rel=1e-9)
    ordered = np.sort(values)
    rank = np.searchsorted(ordered, summary.median) / len(values)
    assert abs(rank - 0.5) <= merged.rank_error < 0.003
    assert sum(merged.histogram(20).counts) == len(values)


def test_merging_the_same_shards_gives_the_same_bits() -> None:
    """In shard order the result is one, whoever makes the shards, and when."""
    values = np.random.default_rng(3).normal(size=3 * EXACT_LIMIT)
    shards = np.array_split(values, 5)
    assert of_shards(shards).summary() == of_shards(shards).summary()
    assert of_shards(shards).interval() == of_shards(shards).interval()


def test_up_to_the_limit_everything_is_exact() -> None:
    """A column that is short enough keeps its values, merged or not."""
    values = np.random.default_rng(4).normal(size=EXACT_LIMIT)
    merged = of_shards(np.array_split(values, 3))
    assert merged.is_exact
    assert merged.rank_error == 0.0
    assert merged.summary() == describe(values)


def test_a_long_shard_merges_with_short_ones_either_way() -> None:
    """Whether a sketch meets values or values a sketch, all are counted once."""
    long, short = np.linspace(0, 1, EXACT_LIMIT + 5), np.linspace(2, 3, 10)
    for shards in ([long, short], [short, long], [long, long]):
        merged = of_shards(shards)
        assert merged.n == sum(len(shard) for shard in shards)
        assert merged.summary().max == max(shard.max() for shard in shards)


def test_absent_values_are_refused_and_nothing_has_no_quantiles() -> None:
    """NaN is no number, and an empty column has no median."""
    with pytest.raises(InvalidInputError):
        ColumnAggregate().extend([0.1, np.nan])
    with pytest.raises(InvalidInputError, match="empty"):
        QuantileSketch().quantiles([0.5])
    with pytest.raises(InvalidInputError, match="width"):
        QuantileSketch().merge(QuantileSketch(width=8))

# SPDX-License-Identifier: Apache-2.0
"""Tests of paired data and plans for them: right by enumeration and by others."""

import itertools
import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from explain.errors import InvalidInputError, InvalidParameterError
from explain.statistics import (
    holm,
    items_for_criterion,
    items_for_equivalence,
    items_for_pairs,
    mcnemar,
    tost,
    wilcoxon_paired,
)

SEED = 20_261_126


def slow_wilcoxon(differences: list[float]) -> tuple[float, float]:
    """Return the two-sided p-value and the rank-biserial, over every sign there is."""
    moved = [value for value in differences if value]
    sizes = sorted(abs(value) for value in moved)
    ranks = [sizes.index(abs(value)) + 1 for value in moved]
    total = sum(ranks)
    seen = sum(rank for rank, value in zip(ranks, moved, strict=True) if value > 0)
    centre = total / 2
    extreme = sum(
        abs(sum(itertools.compress(ranks, signs)) - centre) >= abs(seen - centre)
        for signs in itertools.product((0, 1), repeat=len(ranks))
    )
    return extreme / 2 ** len(ranks), (2 * seen - total) / total


@pytest.mark.parametrize("place", range(5))
def test_wilcoxon_is_exact_on_few_pairs(place: int) -> None:
    """The p-value is the share of all signs that are as extreme."""
    random = np.random.Generator(np.random.Philox(key=[SEED, place]))
    differences = random.normal(0.4, 1, size=9)
    found = wilcoxon_paired(np.append(differences, [0.0, 0.0]))
    p_value, correlation = slow_wilcoxon(differences.tolist())
    assert (found.n, found.zeros, found.ties, found.method) == (9, 2, 0, "exact")
    assert found.p_value == pytest.approx(p_value)
    assert found.rank_biserial == pytest.approx(correlation)


def test_ties_share_ranks_and_are_counted() -> None:
    """Differences of one size share their mean rank; p is then approximate."""
    found = wilcoxon_paired([1.0, -1.0, 1.0, 3.0])
    assert (found.n, found.ties, found.statistic) == (4, 3, 8.0)
    assert found.rank_biserial == pytest.approx((8 - 2) / 10)
    assert found.method == "normal approximation"


def test_no_difference_is_no_evidence() -> None:
    """Pairs that all agree give p = 1 and no effect."""
    found = wilcoxon_paired([0.0, 0.0])
    assert (found.n, found.p_value, found.rank_biserial) == (0, 1.0, 0.0)


def test_of_1000_null_audits_hardly_more_than_5_percent_find_something() -> None:
    """By subject and after Holm, a family of five finds nothing where nothing is."""
    audits, subjects, found = 1000, 30, 0
    names = np.repeat(np.arange(subjects), 2)
    for place in range(audits):
        random = np.random.Generator(np.random.Philox(key=[SEED + 1, place]))
        shared = random.exponential(size=(subjects, 1)) * random.choice(
            [-1, 1], size=(subjects, 1)
        )
        own = shared + 0.5 * random.normal(size=(subjects, 5))
        values = own[names] + 0.3 * random.normal(size=(len(names), 5))
        family = {
            f"m{k}": wilcoxon_paired(values[:, k], subjects=names).p_value
            for k in range(5)
        }
        found += min(holm(family).values()) <= 0.05
    assert found / audits <= 0.066


def test_holm_agrees_with_statsmodels() -> None:
    """Adjusted p-values are those of another implementation, by name."""
    values = {"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.5, "e": 0.01}
    wanted = multipletests(list(values.values()), method="holm")[1]
    assert list(holm(values)) == list(values)
    assert list(holm(values).values()) == pytest.approx(list(wanted))
    with pytest.raises(InvalidInputError):
        holm({"a": math.nan})


def test_equivalence_agrees_with_statsmodels() -> None:
    """The larger one-sided p-value and the 90 % interval are another's."""
    values = np.random.Generator(np.random.Philox(SEED)).normal(0.01, 0.1, size=80)
    found = tost(values, 0.04)
    theirs = DescrStatsW(values)
    assert found.p_value == pytest.approx(theirs.ttost_mean(-0.04, 0.04)[0])
    assert (found.low, found.high) == pytest.approx(theirs.tconfint_mean(alpha=0.1))
    assert found.equivalent == (found.low > -0.04 and found.high < 0.04)


def test_equivalence_needs_evidence() -> None:
    """A few noisy pairs, or a single subject, show no equivalence."""
    assert tost([0.5, -0.5, 0.1], 0.2).equivalent is False
    assert tost([0.0] * 5, 0.2, subjects=["a"] * 5).equivalent is None
    assert tost([0.0] * 5, 0.2).equivalent is True
    with pytest.raises(InvalidParameterError, match="margin"):
        tost([0.0, 0.1], 0.0)


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(1, 9), (4, 4), (0, 3), (12, 5)]
)
def test_mcnemar_is_the_binomial_test_of_discordant_pairs(
    only_first: int, only_second: int
) -> None:
    """Exact p is statsmodels'; mid-p takes off half of what lies at the boundary."""
    first = np.array([True] * 5 + [True] * only_first + [False] * only_second)
    second = np.array([True] * 5 + [False] * only_first + [True] * only_second)
    found = mcnemar(first, second)
    theirs = their_mcnemar([[5, only_first], [only_second, 0]], exact=True)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_exact == pytest.approx(theirs.pvalue)
    n, k = only_first + only_second, min(only_first, only_second)
    below = sum(math.comb(n, i) for i in range(k)) / 2**n
    at = math.comb(n, k) / 2**n
    wanted = 2 * below + at if only_first != only_second else 1 - at / 2
    assert found.p_mid == pytest.approx(wanted)


def test_mcnemar_takes_pairs_of_booleans() -> None:
    """Numbers and columns of other lengths are no outcomes."""
    with pytest.raises(InvalidInputError, match="pairs"):
        mcnemar([True], [True, False])
    with pytest.raises(InvalidInputError, match="true or false"):
        mcnemar([1, 0], [0, 1])


def test_plans_agree_with_statsmodels() -> None:
    """The numbers for a criterion and for pairs are the smallest that another finds."""
    one = items_for_criterion(0.12, 0.02, power=0.8)
    theirs = TTestPower().solve_power(
        effect_size=0.02 / 0.12, alpha=0.025, power=0.8, alternative="larger"
    )
    assert one.n == math.ceil(theirs)
    two = items_for_pairs(0.5, 0.3, power=0.9)
    theirs = TTestPower().solve_power(effect_size=0.6, alpha=0.05, power=0.9)
    assert two.n == math.ceil(theirs)
    assert 0.9 <= two.power < 0.93


def test_an_equivalence_plan_holds_in_simulation() -> None:
    """With as many pairs as planned, equivalence is shown about as often as planned."""
    plan = items_for_equivalence(1.0, 0.5, power=0.8)
    random = np.random.Generator(np.random.Philox(key=[SEED + 2, 0]))
    shown = sum(
        bool(tost(random.normal(size=plan.n), 0.5).equivalent) for _ in range(2000)
    )
    assert shown / 2000 == pytest.approx(plan.power, abs=0.03)


def test_repeated_subjects_need_more_items() -> None:
    """The design effect multiplies the items, not the independent values."""
    plan = items_for_pairs(0.5, 0.3, design_effect=2.5)
    assert plan.items == math.ceil(2.5 * plan.n)


@pytest.mark.parametrize(
    "bad", [{"margin": 0.0}, {"sd": math.inf}, {"alpha": 1.0}, {"power": 0.0}]
)
def test_an_impossible_plan_is_refused(bad: dict[str, float]) -> None:
    """Margins, spreads and probabilities must make sense."""
    with pytest.raises(InvalidParameterError):
        items_for_pairs(**{"sd": 0.1, "margin": 0.1, **bad})
    with pytest.raises(InvalidParameterError, match="larger margin"):
        items_for_pairs(1.0, 1e-6)

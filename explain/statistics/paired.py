# SPDX-License-Identifier: Apache-2.0
"""Two ways of explaining the same items: which is better, and by how much?

Source: Wilcoxon 1945, "Individual comparisons by ranking methods"; Kerby 2014, "The
simple difference formula: an approach to teaching nonparametric correlation" (the
matched-pairs rank-biserial correlation).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explain.statistics.clusters import cluster_sums
from explain.statistics.summaries import Values, finite

#: Up to this many pairs without ties the p-value is exact.
EXACT_PAIRS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Wilcoxon's signed-rank test of paired differences, with its effect size.

    Attributes:
        n: Pairs that differ; those that do not are left out, as Wilcoxon did.
        zeros: Pairs that do not differ.
        ties: Pairs that differ as much as another one; they share mean ranks.
        statistic: Sum of the ranks of positive differences.
        p_value: Two-sided; 1 where no pair differs.
        rank_biserial: (favourable - unfavourable) / all ranks, from -1 to 1: 1 where
            every difference is positive; 0 where no pair differs.
        method: `exact`, or `normal approximation`.
        by_subject: Each pair is the mean difference of one subject.
    """

    n: int
    zeros: int
    ties: int
    statistic: float
    p_value: float
    rank_biserial: float
    method: str
    by_subject: bool


def wilcoxon_paired(
    differences: npt.ArrayLike, *, subjects: npt.ArrayLike | None = None
) -> PairedTest:
    """Return the test of whether the differences are symmetric about zero.

    Args:
        differences: One for each pair, finite.
        subjects: Whom each pair is about; their mean differences are tested, since
            pairs of one subject are not independent.

    Raises:
        InvalidInputError: a difference is NaN or infinite, or lacks a subject.
    """
    column = finite(differences)
    if subjects is not None:
        sums = cluster_sums(column, subjects)
        column = sums.sums / sums.counts
    moved = column[column != 0]
    ranks, ties = _ranks(np.abs(moved))
    up, down = float(ranks[moved > 0].sum()), float(ranks[moved < 0].sum())
    exact = 0 < len(moved) <= EXACT_PAIRS and not ties
    return PairedTest(
        n=len(moved),
        zeros=len(column) - len(moved),
        ties=ties,
        statistic=up,
        p_value=_p_value(moved, exact=exact),
        rank_biserial=(up - down) / (up + down) if len(moved) else 0.0,
        method="exact" if exact else "normal approximation",
        by_subject=subjects is not None,
    )


def _p_value(moved: Values, *, exact: bool) -> float:
    if not len(moved):
        return 1.0
    from scipy.stats import wilcoxon  # noqa: PLC0415 - a slow import

    method = "exact" if exact else "asymptotic"
    found = wilcoxon(moved, zero_method="wilcox", correction=False, method=method)
    return min(1.0, float(found.pvalue))


def _ranks(sizes: Values) -> tuple[Values, int]:
    """Return mean ranks from 1, and how many values share theirs with another."""
    _, places, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Values = (ends - (counts - 1) / 2)[places]
    return means, int(counts[counts > 1].sum())

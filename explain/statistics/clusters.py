# SPDX-License-Identifier: Apache-2.0
"""Sums by subject, since photographs of one person are no independent witnesses.

With the sum s_c and the count m_c of each subject c, the mean over items is the ratio
sum(s) / sum(m), and its error is that of the mean of

    u_c = (s_c - mean m_c) / (sum(m) / C)

over the C subjects (linearisation; Cochran 1977, Sampling Techniques, section 6.3).
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError
from explain.statistics.moments import Moments, moment_interval
from explain.statistics.summaries import Interval, Values, finite


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClusterSums:
    """The sum and the count of the values of each subject that has any.

    Shape: sums (C,) float64, counts (C,) int64, every count at least 1.
    """

    sums: Values
    counts: npt.NDArray[np.int64]

    @property
    def n(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """The mean over values, each of which counts the same."""
        return float(self.sums.sum() / self.counts.sum())

    def residuals(self) -> Values:
        """Return what each subject adds to the mean's error, (C,) float64."""
        share = self.n / len(self.counts)
        found: Values = (self.sums - self.mean * self.counts) / share
        return found

    def interval(self, *, confidence: float = 0.95) -> Interval | None:
        """Return the interval of the mean from moments, None below two subjects."""
        if len(self.counts) < 2:
            return None
        around = Moments.of(self.residuals())
        # The residuals sum to zero but for rounding, which is not the mean's.
        centred = Moments(n=around.n, mean=0.0, m2=around.m2, m3=around.m3)
        found = moment_interval(centred, confidence=confidence)
        if found is None:
            return None
        return Interval(
            low=self.mean + found.low,
            high=self.mean + found.high,
            method=f"{found.method}, over {len(self.counts)} subjects",
            n=self.n,
            confidence=confidence,
            clusters=len(self.counts),
        )

    def design_effect(self, variance: float) -> float:
        """Return by how much repeated subjects multiply the mean's variance.

        Args:
            variance: Sample variance of the values themselves.
        """
        clusters = len(self.counts)
        if clusters < 2 or variance <= 0:
            return 1.0
        around = self.residuals()
        of_mean = float((around * around).sum()) / (clusters - 1) / clusters
        return of_mean / (variance / self.n)


def cluster_sums(values: npt.ArrayLike, subjects: npt.ArrayLike) -> ClusterSums:
    """Return the sums by subject, the subjects in their own order.

    Raises:
        InvalidInputError: a value is not finite, or has no subject.
    """
    column, names = finite(values), np.asarray(subjects).reshape(-1)
    if len(column) != len(names):
        raise InvalidInputError(
            f"Expected a subject for each of {len(column)} values, got {len(names)}."
        )
    # By value within a subject, so that the order of the items does not matter.
    order = np.lexsort((column, names))
    _, codes = np.unique(names[order], return_inverse=True)
    return ClusterSums(
        sums=np.bincount(codes, weights=column[order]).astype(np.float64),
        counts=np.bincount(codes).astype(np.int64),
    )


def effective_size(sums: ClusterSums, variance: float) -> float:
    """Return how many independent values would be as good as these."""
    return sums.n / sums.design_effect(variance)


def standard_error(sums: ClusterSums) -> float | None:
    """Return the standard error of the mean, None below two subjects."""
    clusters = len(sums.counts)
    if clusters < 2:
        return None
    around = sums.residuals()
    return sqrt(float((around * around).sum()) / (clusters - 1) / clusters)

# SPDX-License-Identifier: Apache-2.0
"""The bootstrap interval of a mean, drawn anew by subject where items have subjects.

The percentile interval falls to 91 % on skewed data. The studentised one divides each
replicate's deviation by that replicate's own standard error, and keeps its level:

    t* = (mean* - mean) / se*,   mean - q(1 - a/2) se .. mean - q(a/2) se

Where a replicate has no spread (few distinct values) t* does not exist, and BCa, which
corrects the percentiles for bias and acceleration, takes its place.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, sections 12.5 and
14.3; Hall 1988, "Theoretical comparison of bootstrap confidence intervals".
"""

from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError, InvalidParameterError
from explain.statistics.clusters import ClusterSums, cluster_sums, standard_error
from explain.statistics.moments import Moments, moment_interval, require_confidence
from explain.statistics.summaries import Interval, Values, finite

#: Above this many values or subjects the interval comes from moments alone: it agrees
#: with the bootstrap to plotting accuracy, and resampling would cost seconds.
BOOTSTRAP_LIMIT = 10_000
#: Below this many, replicates are too alike for a bootstrap of any kind.
FEWEST = 8
REPLICATES = 2000

#: Indices drawn at once, so that memory does not grow with the replicates.
_CHUNK = 1_000_000


def bootstrap_mean_interval(
    values: npt.ArrayLike,
    *,
    subjects: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval | None:
    """Return an interval for the mean, or None for fewer than two independent values.

    The order of the values does not matter. Fewer than 8 values or subjects, or more
    than 10,000, get Student's t corrected for skewness; `method` says which it is.

    Args:
        values: Finite numbers.
        subjects: Whom each value is about; subjects are drawn, not values.
        confidence: Of the two-sided interval.
        replicates: Samples drawn.
        seed: Decides them.

    Raises:
        InvalidInputError: a value is NaN or infinite, or lacks a subject.
        InvalidParameterError: the confidence or the replicates make no sense.
    """
    require_confidence(confidence)
    if replicates < 1:
        raise InvalidParameterError(
            f"Expected at least one replicate, got {replicates}."
        )
    column = finite(values)
    if subjects is not None and len(np.asarray(subjects).reshape(-1)) != len(column):
        raise InvalidInputError("Expected as many subjects as values.")
    if len(column) < 2:
        return None
    if subjects is not None:
        sums = cluster_sums(column, subjects)
        return cluster_interval(
            sums, confidence=confidence, replicates=replicates, seed=seed
        )
    column = np.sort(column)
    if column[0] == column[-1]:
        # No spread, no doubt that the sample could show; sums would round one in.
        return _equal(float(column[0]), len(column), len(column), confidence)
    if not FEWEST <= len(column) <= BOOTSTRAP_LIMIT:
        return moment_interval(Moments.of(column), confidence=confidence)
    alone = ClusterSums(sums=column, counts=np.ones(len(column), dtype=np.int64))
    return _resampled(alone, confidence, replicates, seed, by_subject=False)


def cluster_interval(
    sums: ClusterSums,
    *,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval | None:
    """Return the interval of a mean whose values come by subject, None below two."""
    clusters = len(sums.counts)
    if clusters < 2:
        return None
    around = sums.residuals()
    # Residuals that are nothing but rounding.
    if float(np.abs(around).max()) <= 1e-12 * max(1e-300, abs(sums.mean)):
        return _equal(sums.mean, sums.n, clusters, confidence)
    if not FEWEST <= clusters <= BOOTSTRAP_LIMIT:
        return sums.interval(confidence=confidence)
    order = np.lexsort((sums.counts, sums.sums))
    ordered = ClusterSums(sums=sums.sums[order], counts=sums.counts[order])
    return _resampled(ordered, confidence, replicates, seed, by_subject=True)


def _equal(value: float, n: int, clusters: int, confidence: float) -> Interval:
    return Interval(
        low=value,
        high=value,
        method="all values are equal",
        n=n,
        confidence=confidence,
        clusters=clusters,
    )


def _resampled(
    sums: ClusterSums,
    confidence: float,
    replicates: int,
    seed: int,
    *,
    by_subject: bool,
) -> Interval:
    clusters, tail = len(sums.counts), (1 - confidence) / 2
    mean, error = sums.mean, standard_error(sums) or 0.0
    means, errors = _replicates(sums, replicates, seed, by_subject=by_subject)
    # An error that is nothing but rounding counts as none.
    if float(errors.min()) > 1e-9 * error:
        kind = "studentised"
        found = np.quantile((means - mean) / errors, [1 - tail, tail])
        low, high = mean - found[0] * error, mean - found[1] * error
    else:
        kind = "BCa"
        low, high = np.quantile(means, _corrected(sums, means, tail))
    whom = f" by {clusters} subjects" if by_subject else ""
    return Interval(
        low=float(low),
        high=float(high),
        method=f"{kind} bootstrap{whom}, {replicates} replicates, seed {seed}",
        n=sums.n,
        confidence=confidence,
        clusters=clusters,
    )


def _replicates(
    sums: ClusterSums, replicates: int, seed: int, *, by_subject: bool
) -> tuple[Values, Values]:
    """Return the mean and the standard error of each replicate, chunk by chunk."""
    random = np.random.Generator(np.random.Philox(seed))
    clusters = len(sums.counts)
    rows = max(1, _CHUNK // clusters)
    # From the mean, or squares of large values would cancel.
    centre = sums.mean
    away = sums.sums - centre * sums.counts
    counts = sums.counts.astype(np.float64)
    means, errors = np.empty(replicates), np.empty(replicates)
    scale = clusters / (clusters - 1)
    for start in range(0, replicates, rows):
        here = slice(start, min(start + rows, replicates))
        picks = random.integers(clusters, size=(here.stop - start, clusters))
        a = away[picks]
        aa = np.einsum("ij,ij->i", a, a)
        if by_subject:
            m = counts[picks]
            total = m.sum(axis=1)
            shift = a.sum(axis=1) / total
            am, mm = np.einsum("ij,ij->i", a, m), np.einsum("ij,ij->i", m, m)
            spread = aa - 2 * shift * am + shift * shift * mm
        else:
            total = np.float64(clusters)
            shift = a.sum(axis=1) / total
            spread = aa - clusters * shift * shift
        means[here] = centre + shift
        errors[here] = np.sqrt(np.maximum(spread, 0.0) * scale) / total
    return means, errors


def _corrected(sums: ClusterSums, means: Values, tail: float) -> list[float]:
    """Return the percentiles that BCa takes in place of the tails."""
    normal, around = NormalDist(), sums.residuals()
    # Replicates that equal the mean, but for rounding, count half: discrete data
    # would be biased otherwise.
    near = 1e-9 * float(np.abs(around).max()) / len(around)
    away = means - sums.mean
    below = float((away < -near).mean() + (np.abs(away) <= near).mean() / 2)
    below = min(max(below, 0.5 / len(means)), 1 - 0.5 / len(means))
    bias = normal.inv_cdf(below)
    squares = float((around * around).sum())
    cubes = float((around * around * around).sum())
    acceleration = cubes / (6 * squares * sqrt(squares))
    found = []
    for probability in (tail, 1 - tail):
        shifted = bias + normal.inv_cdf(probability)
        # Beyond this the correction has no meaning any more.
        scale = max(1e-3, 1 - acceleration * shifted)
        found.append(normal.cdf(bias + shifted / scale))
    return found

# SPDX-License-Identifier: Apache-2.0
"""No material difference: the two one-sided tests against a margin set beforehand.

Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the
power approach for assessing the equivalence of average bioavailability".
"""

from dataclasses import dataclass
from math import sqrt

import numpy.typing as npt

from explain.errors import InvalidParameterError
from explain.statistics.clusters import cluster_sums
from explain.statistics.moments import Moments, t_quantile
from explain.statistics.summaries import finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """Whether a mean lies within a margin of zero.

    Attributes:
        n: Independent differences (subjects, where these are given).
        mean: Of the differences.
        low: Lower end of the 1 - 2 alpha interval; None below two differences.
        high: Its upper end.
        p_value: The larger of the two one-sided ones; None below two differences.
        margin: As set beforehand.
        equivalent: The p-value is at most alpha; equally, the interval lies wholly
            within the margin. None where nothing can be said.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    p_value: float | None
    margin: float
    equivalent: bool | None


def tost(
    differences: npt.ArrayLike,
    margin: float,
    *,
    alpha: float = 0.05,
    subjects: npt.ArrayLike | None = None,
) -> Equivalence:
    """Return whether the mean difference lies within the margin of zero.

    Args:
        differences: One for each pair, finite.
        margin: The largest difference that does not matter, above zero.
        alpha: Of each one-sided test.
        subjects: Whom each pair is about; their mean differences are tested.

    Raises:
        InvalidParameterError: margin or alpha make no sense.
        InvalidInputError: a difference is NaN or infinite, or lacks a subject.
    """
    if not margin > 0:
        raise InvalidParameterError(f"Expected a margin above 0, got {margin}.")
    if not 0 < alpha < 0.5:
        raise InvalidParameterError(f"Expected an alpha below 0.5, got {alpha}.")
    column = finite(differences)
    if subjects is not None:
        sums = cluster_sums(column, subjects)
        column = sums.sums / sums.counts
    moments = Moments.of(column)
    if moments.std is None:
        return Equivalence(
            n=moments.n,
            mean=moments.mean if moments.n else None,
            low=None,
            high=None,
            p_value=None,
            margin=margin,
            equivalent=None,
        )
    error = moments.std / sqrt(moments.n)
    reach = t_quantile(1 - alpha, moments.n - 1) * error
    p_value = _p_value(moments.mean, error, margin, moments.n - 1)
    return Equivalence(
        n=moments.n,
        mean=moments.mean,
        low=moments.mean - reach,
        high=moments.mean + reach,
        p_value=p_value,
        margin=margin,
        equivalent=p_value <= alpha,
    )


def _p_value(mean: float, error: float, margin: float, freedom: int) -> float:
    from scipy.special import stdtr  # noqa: PLC0415 - only where it is needed

    if error == 0:
        return 0.0 if abs(mean) < margin else 1.0
    nearer = margin - abs(mean)
    return float(stdtr(freedom, -nearer / error))

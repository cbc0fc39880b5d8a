# SPDX-License-Identifier: Apache-2.0
"""Moments that merge exactly, and the interval of a mean that needs nothing else.

With two columns of na and nb values and d = mean_b - mean_a, n = na + nb:

    mean = mean_a + d nb / n
    M2   = M2a + M2b + d^2 na nb / n
    M3   = M3a + M3b + d^3 na nb (na - nb) / n^2 + 3 d (na M2b - nb M2a) / n

Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for
computing sample variances"; Pebay 2008, "Formulas for robust, one-pass parallel
computation of covariances and arbitrary-order statistical moments" (SAND2008-6212).
"""

from dataclasses import dataclass
from math import cbrt, sqrt
from statistics import NormalDist

import numpy.typing as npt

from explain.errors import InvalidParameterError
from explain.statistics.summaries import Interval, finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Count, mean and central sums of the second and third power of a column."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0

    @classmethod
    def of(cls, values: npt.ArrayLike) -> "Moments":
        """Return the moments of the values.

        Raises:
            InvalidInputError: a value is NaN or infinite.
        """
        column = finite(values)
        if not len(column):
            return cls()
        mean = float(column.mean())
        deviations = column - mean
        squares = deviations * deviations
        return cls(
            n=len(column),
            mean=mean,
            m2=float(squares.sum()),
            m3=float((squares * deviations).sum()),
        )

    def merged(self, other: "Moments") -> "Moments":
        """Return the moments of both columns together."""
        if not self.n or not other.n:
            return other if other.n else self
        n, shift = self.n + other.n, other.mean - self.mean
        cross = shift * self.n * other.n / n
        return Moments(
            n=n,
            mean=self.mean + shift * other.n / n,
            m2=self.m2 + other.m2 + shift * cross,
            m3=self.m3
            + other.m3
            + shift * shift * cross * (self.n - other.n) / n
            + 3 * shift * (self.n * other.m2 - other.n * self.m2) / n,
        )

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n - 1); None below two values."""
        return sqrt(max(0.0, self.m2) / (self.n - 1)) if self.n > 1 else None

    @property
    def skewness(self) -> float:
        """The third standardised moment, zero where there is no spread."""
        if self.n < 3 or self.m2 <= 0:
            return 0.0
        return float(sqrt(self.n) * self.m3 / self.m2**1.5)


def moment_interval(moments: Moments, *, confidence: float = 0.95) -> Interval | None:
    """Return an interval for the mean from three moments, None below two values.

    The t-quantiles are corrected for skewness by Hall's transformation, which is
    monotone and so never gives an interval whose ends are exchanged:

        g(T) = T + s (T^2/3 + 1/6) + s^2 T^3 / 27,   s = skewness / sqrt(n)

    Source: Hall 1992, "On the removal of skewness by transformation", Journal of the
    Royal Statistical Society B 54(1).
    """
    require_confidence(confidence)
    std = moments.std
    if std is None:
        return None
    n = moments.n
    skew = moments.skewness / sqrt(n)
    reach = t_quantile((1 + confidence) / 2, n - 1)
    error = std / sqrt(n)
    return Interval(
        low=moments.mean - error * _untransformed(reach, skew),
        high=moments.mean - error * _untransformed(-reach, skew),
        method="Student's t with Hall's correction for skewness",
        n=n,
        confidence=confidence,
        clusters=n,
    )


def _untransformed(value: float, skew: float) -> float:
    """Return the T at which g(T) is the value."""
    if abs(skew) < 1e-9:
        return value
    return 3 / skew * (cbrt(1 + skew * (value - skew / 6)) - 1)


def t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t; the normal one beyond 10,000."""
    if freedom > 10_000:
        return NormalDist().inv_cdf(probability)
    from scipy.special import stdtrit  # noqa: PLC0415 - only where it is needed

    return float(stdtrit(freedom, probability))


def require_confidence(confidence: float) -> None:
    """Nothing happens if the confidence lies between 0 and 1.

    Raises:
        InvalidParameterError: it does not.
    """
    if not 0 < confidence < 1:
        raise InvalidParameterError(
            f"Expected a confidence between 0 and 1, got {confidence}."
        )

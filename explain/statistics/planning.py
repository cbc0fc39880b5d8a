# SPDX-License-Identifier: Apache-2.0
"""How many items the next audit needs, from how much the items of an earlier one vary.

With t the quantile of the test and l the shift in standard errors, the power is

    criterion    P(T(n-1, l) > t(1 - a/2)),   l = margin sqrt(n) / sd
    pairs        the same plus the other tail
    equivalence  E over s of P(|mean| < margin - t(1 - a) s / sqrt(n))

Source: Cohen 1988, Statistical Power Analysis; Phillips 1990, "Power of the two
one-sided tests procedure in bioequivalence".
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from explain.errors import InvalidParameterError

#: No plan asks for more; a margin that needs it is beyond measuring.
MOST_ITEMS = 100_000_000
#: Points at which the spread of a sample is averaged over.
_POINTS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A number of items and the power that it gives.

    Attributes:
        kind: `criterion`, `paired` or `equivalence`.
        n: Independent values needed.
        items: Items needed where subjects repeat: n times the design effect.
        power: What n values give, at least what was asked for.
    """

    kind: str
    n: int
    items: int
    power: float


def items_for_criterion(
    sd: float,
    margin: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> Planned:
    """Return how many items show a mean that is better than its bound by the margin.

    As a criterion with 1 - alpha confidence does, it needs the two-sided interval to
    lie wholly on the right side of the bound.

    Args:
        sd: Standard deviation of the values.
        margin: How much better than the bound the true mean is.
        alpha: One minus the confidence.
        power: How likely the criterion is then to pass.
        design_effect: By how much repeated subjects multiply the variance.

    Raises:
        InvalidParameterError: a parameter makes no sense, or no number is enough.
    """
    _require(sd, margin, alpha, power, design_effect)
    return _planned(
        "criterion",
        lambda n: _t_power(n, margin / sd, alpha / 2, both=False),
        power,
        design_effect,
    )


def items_for_pairs(
    sd: float,
    margin: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> Planned:
    """Return how many pairs show a mean difference as large as the margin.

    For a two-sided paired t-test; Wilcoxon's test needs at most a sixth more.

    Args:
        sd: Standard deviation of the differences.
        margin: The true mean difference.
        alpha: Of the two-sided test.
        power: How likely it is then to be seen.
        design_effect: By how much repeated subjects multiply the variance.

    Raises:
        InvalidParameterError: a parameter makes no sense, or no number is enough.
    """
    _require(sd, margin, alpha, power, design_effect)
    return _planned(
        "paired",
        lambda n: _t_power(n, margin / sd, alpha / 2, both=True),
        power,
        design_effect,
    )


def items_for_equivalence(
    sd: float,
    margin: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> Planned:
    """Return how many pairs show that a mean difference of zero is within the margin.

    Args:
        sd: Standard deviation of the differences.
        margin: The largest difference that does not matter.
        alpha: Of each of the two one-sided tests.
        power: How likely equivalence is then to be shown.
        design_effect: By how much repeated subjects multiply the variance.

    Raises:
        InvalidParameterError: a parameter makes no sense, or no number is enough.
    """
    _require(sd, margin, alpha, power, design_effect)
    return _planned(
        "equivalence",
        lambda n: _tost_power(n, margin / sd, alpha),
        power,
        design_effect,
    )


def _require(
    sd: float, margin: float, alpha: float, power: float, design_effect: float
) -> None:
    for name, value in (("margin", margin), ("standard deviation", sd)):
        if not 0 < value < float("inf"):
            raise InvalidParameterError(f"Expected a {name} above 0, got {value}.")
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise InvalidParameterError(
                f"Expected the {name} between 0 and 1, got {value}."
            )
    if not design_effect > 0:
        raise InvalidParameterError(
            f"Expected a design effect above 0, got {design_effect}."
        )


def _planned(
    kind: str, power_of: Callable[[int], float], power: float, design_effect: float
) -> Planned:
    """Return the smallest number that gives the power: doubled, then halved between."""
    high = 2
    while power_of(high) < power:
        high *= 2
        if high > MOST_ITEMS:
            raise InvalidParameterError(
                f"More than {MOST_ITEMS:,} items would be needed; take a larger margin."
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(middle) < power:
            low = middle
        else:
            high = middle
    return Planned(
        kind=kind,
        n=high,
        items=ceil(high * design_effect),
        power=power_of(high),
    )


def _t_power(n: int, effect: float, tail: float, *, both: bool) -> float:
    from scipy.special import nctdtr, ndtr, ndtri, stdtrit  # noqa: PLC0415

    shift = effect * sqrt(n)
    if n > 10_000 or shift > 30:
        reach = (
            float(ndtri(1 - tail)) if n > 10_000 else float(stdtrit(n - 1, 1 - tail))
        )
        return float(ndtr(shift - reach) + (ndtr(-shift - reach) if both else 0.0))
    reach = float(stdtrit(n - 1, 1 - tail))
    seen = 1 - float(nctdtr(n - 1, shift, reach))
    return seen + (float(nctdtr(n - 1, shift, -reach)) if both else 0.0)


def _tost_power(n: int, effect: float, alpha: float) -> float:
    from scipy.special import chdtri, ndtr, stdtrit  # noqa: PLC0415

    places = (np.arange(_POINTS) + 0.5) / _POINTS
    spread = np.sqrt(chdtri(n - 1, places) / (n - 1))
    room = effect * sqrt(n) - float(stdtrit(n - 1, 1 - alpha)) * spread
    inside = np.where(room > 0, 2 * ndtr(room) - 1, 0.0)
    return float(inside.mean())

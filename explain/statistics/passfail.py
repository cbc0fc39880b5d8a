# SPDX-License-Identifier: Apache-2.0
"""Pass or fail of the same items under two conditions: McNemar's test.

With b items that pass only under the first condition and c only under the second, and
X binomial(b + c, 1/2):

    exact  p = min(1, 2 P(X <= min(b, c)))
    mid-p  p = exact - P(X = min(b, c)),    1 - P(X = b) / 2 where b = c

Source: McNemar 1947; Fagerland, Lydersen and Laake 2013, "The McNemar test for binary
matched-pairs data: mid-p and asymptotic are better than exact conditional".
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """The discordant pairs, and how surprising their imbalance is.

    Attributes:
        n: Pairs.
        only_first: Pairs that pass under the first condition alone.
        only_second: Pairs that pass under the second alone.
        p_exact: Two-sided; never above its level, and often far below.
        p_mid: Two-sided; close to its level, and the one to quote.
    """

    n: int
    only_first: int
    only_second: int
    p_exact: float
    p_mid: float


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> McNemar:
    """Return the test of whether both conditions pass equally often.

    Shape: first, second (n,) bool, one independent pair at each place.

    Raises:
        InvalidInputError: the columns differ in length, or hold other than booleans.
    """
    one, two = np.asarray(first).reshape(-1), np.asarray(second).reshape(-1)
    if len(one) != len(two):
        raise InvalidInputError(
            f"Expected pairs, got {len(one)} and {len(two)} outcomes."
        )
    if len(one) and (one.dtype != np.bool_ or two.dtype != np.bool_):
        raise InvalidInputError("Expected true or false at every place.")
    one, two = one.astype(np.bool_), two.astype(np.bool_)
    only_first, only_second = int((one & ~two).sum()), int((two & ~one).sum())
    p_exact, p_mid = _p_values(only_first, only_second)
    return McNemar(
        n=len(one),
        only_first=only_first,
        only_second=only_second,
        p_exact=p_exact,
        p_mid=p_mid,
    )


def _p_values(only_first: int, only_second: int) -> tuple[float, float]:
    discordant, least = only_first + only_second, min(only_first, only_second)
    if not discordant:
        return 1.0, 1.0
    from scipy.stats import binom  # noqa: PLC0415 - a slow import

    at_most = float(binom.cdf(least, discordant, 0.5))
    exactly = float(binom.pmf(least, discordant, 0.5))
    if only_first == only_second:
        return 1.0, 1 - exactly / 2
    return min(1.0, 2 * at_most), min(1.0, 2 * at_most - exactly)

# SPDX-License-Identifier: Apache-2.0
"""What is said of how two columns differ, for whoever reports it. No numpy here."""

from dataclasses import dataclass

#: Values that stand for a longer column; up to so many the mean is resampled.
SAMPLE = 10_000

#: Pairs from which on differences within items are compared, not means of all.
FEWEST_PAIRS = 30

#: Added to the count of each class, so that a class that is new costs no infinity.
PSI_PRIOR = 0.5

PSI_FORMULA = (
    "sum over classes of (q - p) ln(q / p), p and q being the shares before and now, "
    "each with half an item added"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanChange:
    """How far a mean moved, with a 95 % interval and how that was found."""

    value: float
    low: float | None
    high: float | None
    basis: str
    n: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedHistogram:
    """Counts of two samples in the same bins."""

    edges: tuple[float, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

# SPDX-License-Identifier: Apache-2.0
"""What a search looks for: several values, and what the best and worst of each are."""

import math
from dataclasses import dataclass

from explain.errors import InvalidParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One value that is to become high or low.

    The two ends scale the hypervolume: a front that reaches every best has 1, one
    that is nowhere better than a worst has 0.

    Attributes:
        name: For people.
        best: The end to aim at; above ``worst`` where high values are good.
        worst: The other end.
        log: Whether ratios count rather than differences; values are then above 0.
    """

    name: str
    best: float
    worst: float
    log: bool = False

    def __post_init__(self) -> None:
        ends = (self.best, self.worst)
        fine = all(math.isfinite(end) for end in ends) and self.best != self.worst
        if not fine or (self.log and min(ends) <= 0):
            raise InvalidParameterError(
                f"Expected two different finite ends for {self.name}"
                f"{' above 0' if self.log else ''}, got {self.best} and {self.worst}."
            )

    def gain(self, value: float) -> float:
        """Return the value on a scale of 0 (worst) to 1 (best), beyond either end too.

        A value that is no number, or has no logarithm, gives NaN.
        """
        if not math.isfinite(value) or (self.log and value <= 0):
            return math.nan
        value, best, worst = (
            math.log(part) if self.log else part
            for part in (value, self.best, self.worst)
        )
        return (value - worst) / (best - worst)


#: Quality of the explanation in 0 .. 1: mean IoU, or one minus the deletion area.
QUALITY = Objective(name="quality", best=1.0, worst=0.0)
#: Time of map and mask in forward passes at the size and precision of reference.
TIME = Objective(name="time", best=0.1, worst=1000.0, log=True)
#: What an explanation takes in storage, in bytes.
BYTES = Objective(name="bytes", best=10.0, worst=100_000.0, log=True)

OBJECTIVES = (QUALITY, TIME, BYTES)

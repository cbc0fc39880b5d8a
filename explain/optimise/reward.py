# SPDX-License-Identifier: Apache-2.0
"""What an explanation was worth: its quality less what it cost."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError, InvalidParameterError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """quality * q - time * log(t / time_unit) - size * log(b / size_unit).

    The weights are a convention: with the defaults, ten times the time or the bytes
    must buy 0.046 of quality. Costs count by their logarithm, since they span orders
    of magnitude.

    Attributes:
        quality: Weight of the quality q, in 0 .. 1.
        time: Weight of the time t.
        size: Weight of the bytes b.
        time_unit: The time that costs nothing, in forward passes.
        size_unit: The bytes that cost nothing.

    Source: Li 2025, A Lightweight Explainability Framework (speed, memory and quality
    together).
    """

    quality: float = 1.0
    time: float = 0.02
    size: float = 0.02
    time_unit: float = 1.0
    size_unit: float = 300.0

    def __post_init__(self) -> None:
        weights = (self.quality, self.time, self.size)
        units = (self.time_unit, self.size_unit)
        fine = all(math.isfinite(part) for part in (*weights, *units))
        if not fine or min(weights) < 0 or min(units) <= 0:
            raise InvalidParameterError(
                f"Expected weights of at least 0 and units above 0, got {self}."
            )

    def of(
        self, quality: npt.ArrayLike, time: npt.ArrayLike, size: npt.ArrayLike
    ) -> Floats:
        """Return the rewards; NaN where the quality is none.

        Args:
            quality: Of each explanation, in 0 .. 1; NaN where it is absent.
            time: In forward passes, above 0.
            size: In bytes, above 0.

        Shape: three that broadcast -> theirs, float64.

        Raises:
            InvalidInputError: a time or a size is not a number above 0.
        """
        times = np.asarray(time, dtype=np.float64)
        sizes = np.asarray(size, dtype=np.float64)
        for noun, values in (("times", times), ("sizes", sizes)):
            if not np.isfinite(values).all() or (values <= 0).any():
                raise InvalidInputError(
                    f"Expected {noun} above 0, got {values.min()}; what costs nothing"
                    f" has no logarithm, so count the map's own cost in."
                )
        rewards: Floats = (
            self.quality * np.asarray(quality, dtype=np.float64)
            - self.time * np.log(times / self.time_unit)
            - self.size * np.log(sizes / self.size_unit)
        )
        return rewards

# SPDX-License-Identifier: Apache-2.0
"""A row as numbers: each column one number, or one for each category. No torch here."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError

Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class RowSpace:
    """Which numbers belong to which column, and what stands for an absent column.

    Attributes:
        widths: How many numbers each column has, in order; C of them, E in sum.
        baseline: (E,), the numbers of every column that is absent.
        column_of: (E,) int64, the column of each number.
    """

    widths: tuple[int, ...]
    baseline: Numbers
    column_of: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Refuse a baseline that does not fit the columns."""
        if not self.widths or min(self.widths) < 1:
            raise InvalidInputError(
                "Expected columns of at least one number each, and at least one column."
            )
        _require_numbers("baseline", self.baseline, self.size)
        owners = np.repeat(np.arange(len(self.widths), dtype=np.int64), self.widths)
        object.__setattr__(self, "column_of", owners)

    @property
    def size(self) -> int:
        """How many numbers a row has, E."""
        return sum(self.widths)


@dataclass(frozen=True, slots=True, eq=False)
class RowContent:
    """One decoded row.

    Attributes:
        space: What its numbers mean; the same object for all rows of an audit.
        values: (E,), finite.
    """

    space: RowSpace
    values: Numbers

    def __post_init__(self) -> None:
        """Refuse numbers that are not a row of the space."""
        _require_numbers("row", self.values, self.space.size)

    @property
    def units(self) -> tuple[int, int]:
        """One unit a column, in one row."""
        return (1, len(self.space.widths))


def _require_numbers(what: str, values: Numbers, size: int) -> None:
    if values.shape != (size,) or values.dtype != np.float32:
        raise InvalidInputError(
            f"Expected a {what} of {size} float32 numbers, got"
            f" {values.shape} {values.dtype}."
        )
    if not np.isfinite(values).all():
        raise InvalidInputError(f"The {what} holds NaN or infinity.")

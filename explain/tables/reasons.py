# SPDX-License-Identifier: Apache-2.0
"""The reasons of a row: its columns, the weightiest first. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnReason:
    """One column's part in the score of a row.

    Attributes:
        place: Of the column, from 0.
        column: Its name.
        value: The attribution; above zero it speaks for the target class.
        share: Its magnitude over that of all columns, 0 to 1.
        kept: Whether the threshold policy kept it.
    """

    place: int
    column: str
    value: float
    share: float
    kept: bool


def top_reasons(
    values: npt.NDArray[np.floating],
    columns: Sequence[str],
    *,
    kept: npt.NDArray[np.bool_],
    most: int,
) -> tuple[ColumnReason, ...]:
    """Return the columns of the largest magnitude, ties in the columns' order.

    A column without any part in the score is no reason.

    Args:
        values: (C,), the row's attribution, finite.
        columns: Their names, C of them.
        kept: (C,).
        most: How many reasons at most.

    Raises:
        ValueError: lengths differ.
    """
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    mask = np.asarray(kept).reshape(-1)
    if len(flat) != len(columns) or len(mask) != len(columns):
        raise ValueError(
            f"Expected {len(columns)} values and marks, one a column, got {len(flat)}"
            f" and {len(mask)}."
        )
    total = float(np.abs(flat).sum())
    order = np.argsort(-np.abs(flat), kind="stable")[:most]
    return tuple(
        ColumnReason(
            place=int(place),
            column=columns[place],
            value=float(flat[place]),
            share=abs(float(flat[place])) / total,
            kept=bool(mask[place]),
        )
        for place in order
        if flat[place] != 0
    )

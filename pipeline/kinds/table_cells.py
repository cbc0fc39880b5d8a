# SPDX-License-Identifier: Apache-2.0
"""From the cells of one row to the numbers that a network is given."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ItemError, Reason
from pipeline.kinds.table_encoding import CategoryColumn, Encoding, NumericColumn
from pipeline.sources.cells import text_of

#: What Python's float takes beyond this (underscores, spaces) is no number in a table.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)


def row_numbers(
    encoding: Encoding, cells: Mapping[str, Any]
) -> npt.NDArray[np.float32]:
    """Return the row's numbers.

    Args:
        encoding: Says what each cell becomes.
        cells: Column to cell; None where it is empty.

    Shape: (E,), finite.

    Raises:
        ItemError: `column_missing`, `cell_empty`, `cell_not_a_number`,
            `cell_not_finite` or `category_unknown`.
    """
    numbers: list[float] = []
    for column in encoding.columns:
        if column.name not in cells:
            raise ItemError(Reason.COLUMN_MISSING)
        cell = cells[column.name]
        if isinstance(column, NumericColumn):
            numbers.append(_number(column, cell))
        else:
            numbers.extend(_levels(column, cell))
    with np.errstate(over="ignore"):
        found = np.asarray(numbers, dtype=np.float64).astype(np.float32)
    if not np.isfinite(found).all():
        raise ItemError(Reason.CELL_NOT_FINITE)
    return found


def baseline_numbers(encoding: Encoding) -> npt.NDArray[np.float32]:
    """Return the numbers of a row of which every column is absent, (E,)."""
    numbers = [number for column in encoding.columns for number in column.baseline]
    return np.asarray(numbers, dtype=np.float32)


def _number(column: NumericColumn, cell: Any) -> float:
    if cell is None or cell == "":
        if column.missing == "refuse":
            raise ItemError(Reason.CELL_EMPTY)
        return column.scaled(column.mean)
    if isinstance(cell, str):
        if _NOT_FINITE.fullmatch(cell):
            raise ItemError(Reason.CELL_NOT_FINITE)
        if not _NUMBER.fullmatch(cell):
            raise ItemError(Reason.CELL_NOT_A_NUMBER)
    elif isinstance(cell, bool) or not isinstance(cell, int | float):
        raise ItemError(Reason.CELL_NOT_A_NUMBER)
    try:
        value = float(cell)
    except OverflowError as exc:
        raise ItemError(Reason.CELL_NOT_FINITE) from exc
    if not math.isfinite(value):
        raise ItemError(Reason.CELL_NOT_FINITE)
    return column.scaled(value)


def _levels(column: CategoryColumn, cell: Any) -> list[float]:
    """Return a one at the level among zeros."""
    if isinstance(cell, list | dict):
        raise ItemError(Reason.CATEGORY_UNKNOWN)
    level = text_of(cell) or ""
    if level not in column.levels and column.unknown == "refuse":
        empty = level == ""
        raise ItemError(Reason.CELL_EMPTY if empty else Reason.CATEGORY_UNKNOWN)
    return [float(level == each) for each in column.levels]

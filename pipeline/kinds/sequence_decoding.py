# SPDX-License-Identifier: Apache-2.0
"""From rows or a .npy file to the numbers of a sequence, steps by features.

Long tables have a row a step and a column a feature; wide ones have a row a sequence
of one feature and a column a step, empty behind its end. A .npy file holds an array of
steps, or of steps by features. No torch here.
"""

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ItemError, Reason
from pipeline.records import Row

Numbers = npt.NDArray[np.float64]

#: Cells of a column of marks that mark nothing.
_UNMARKED = frozenset({"", "0", "0.0", "false", "no"})


def long_values(rows: Sequence[Row], features: Sequence[str]) -> Numbers:
    """Return the numbers of rows that are steps, (T, F).

    Raises:
        ItemError: a cell is empty or no number.
    """
    cells = [[_number(row.get(name)) for name in features] for row in rows]
    return np.array(cells, dtype=np.float64).reshape(len(rows), len(features))


def wide_values(row: Row, steps: Sequence[str]) -> Numbers:
    """Return the numbers of a row whose columns are steps, (T, 1).

    Raises:
        ItemError: no cell holds anything, one before the last that does holds nothing,
            or one holds no number.
    """
    cells = [row.get(name) for name in steps]
    while cells and cells[-1] is None:
        cells.pop()
    if not cells:
        raise ItemError(Reason.SEQUENCE_EMPTY)
    if None in cells:
        raise ItemError(Reason.SEQUENCE_RAGGED)
    return np.array([[_number(cell)] for cell in cells], dtype=np.float64)


def npy_values(data: bytes) -> Numbers:
    """Return the numbers of a .npy file, (T, F); an array of one axis has F = 1.

    Nothing is allocated before the header was held against the file's size, and no
    pickle is read.

    Raises:
        ItemError: the file is damaged, holds no real numbers, or has no step.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, by_column, dtype = read(stream)
    except (ValueError, SyntaxError, TypeError) as exc:
        raise ItemError(Reason.NOT_A_SEQUENCE) from exc
    if dtype.kind not in "iuf" or dtype.hasobject or len(shape) not in {1, 2}:
        raise ItemError(Reason.NOT_A_SEQUENCE)
    body = memoryview(data)[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ItemError(Reason.NOT_A_SEQUENCE)
    if 0 in shape:
        raise ItemError(Reason.SEQUENCE_EMPTY)
    flat = np.frombuffer(body, dtype=dtype).astype(np.float64)
    values = flat.reshape(shape, order="F" if by_column else "C")
    return values.reshape(shape[0], -1)


def require_rising(rows: Sequence[Row], column: str) -> None:
    """Nothing happens if the times of the steps rise.

    Times are compared as numbers where all are, else as texts, as ISO dates can be.

    Raises:
        ItemError: they do not, or one is missing.
    """
    times = [row.get(column) for row in rows]
    if None in times:
        raise ItemError(Reason.CELL_EMPTY)
    try:
        keys: list[Any] = [_number(time) for time in times]
    except ItemError:
        keys = [str(time) for time in times]
    if any(not before < after for before, after in pairwise(keys)):
        raise ItemError(Reason.STEPS_UNSORTED)


def marks(rows: Sequence[Row], column: str) -> npt.NDArray[np.bool_] | None:
    """Return which steps a person marked, (T,), None where none is."""
    cells = [row.get(column) for row in rows]
    found = np.array([str(_plain(cell)).lower() not in _UNMARKED for cell in cells])
    return found if found.any() else None


def _plain(cell: Any) -> Any:
    return "" if cell is None else cell


def _number(cell: Any) -> float:
    """Return a cell's number.

    Raises:
        ItemError: it is empty, NaN, infinite or no number.
    """
    if cell is None:
        raise ItemError(Reason.CELL_EMPTY)
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):
        raise ItemError(Reason.CELL_NOT_A_NUMBER)
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ItemError(Reason.CELL_NOT_A_NUMBER) from exc
    if not math.isfinite(value):
        raise ItemError(Reason.CELL_NOT_FINITE)
    return value

# SPDX-License-Identifier: Apache-2.0
"""From rows or a .npy file to the numbers of a sequence, steps by features.

Long tables have a row a step and a column a feature; wide ones have a row a sequence
of one feature and a column a step, empty behind its end. A .npy file holds an array of
steps, or of steps by features. No torch here.
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ItemError, Reason
from pipeline.records import Row

Numbers = npt.NDArray[np.float64]

#: What a .npy file of real numbers begins with, as NumPy and others write it: magic,
#: version, length, and the text of a dictionary. Parsed here, because NumPy's own
#: reader takes whatever Python's tokenizer makes of the text.
_HEAD = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|[\x02\x03]\x00....)"
    rb"\{'descr': '([<>|=](?:[iu][1248]|f[248]))', 'fortran_order': (True|False),"
    rb" 'shape': \(([0-9]{1,12},? ?(?:[0-9]{1,12})?)\),? ?\} *\n",
    re.DOTALL,
)

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
    head = _HEAD.match(data)
    if head is None:
        raise ItemError(Reason.NOT_A_SEQUENCE)
    kind, by_column, sizes = (part.decode("ascii") for part in head.groups())
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    dtype = np.dtype(kind)
    body = memoryview(data)[head.end() :]
    if len(shape) not in {1, 2} or math.prod(shape) * dtype.itemsize != len(body):
        raise ItemError(Reason.NOT_A_SEQUENCE)
    if 0 in shape:
        raise ItemError(Reason.SEQUENCE_EMPTY)
    flat = np.frombuffer(body, dtype=dtype).astype(np.float64)
    values = flat.reshape(shape, order="F" if by_column == "True" else "C")
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

# SPDX-License-Identifier: Apache-2.0
"""Moments and sums of many parts of a column at once, a chunk at a time.

Parts are numbered from 0 as they appear; a part costs 32 bytes of moments or 16 of sums
for each column, however many values it has.
"""

import numpy as np
import numpy.typing as npt

from explain.statistics.clusters import ClusterSums
from explain.statistics.moments import Moments
from explain.statistics.summaries import Values

Codes = npt.NDArray[np.int64]


class GroupedMoments:
    """The moments of each part of a column."""

    def __init__(self) -> None:
        self._table: Values = np.zeros((4, 0))

    def extend(self, codes: Codes, values: Values) -> None:
        """The parts are longer by these values; merged as `Moments` are.

        Shape: codes, values (n,); values finite.
        """
        parts = int(codes.max()) + 1 if len(codes) else 0
        self._table = _grown(self._table, parts)
        size = self._table.shape[1]
        count = np.bincount(codes, minlength=size).astype(np.float64)
        seen = count > 0
        with np.errstate(invalid="ignore"):
            mean = np.where(
                seen,
                np.bincount(codes, weights=values, minlength=size)
                / np.maximum(count, 1),
                0.0,
            )
        away = values - mean[codes]
        m2 = np.bincount(codes, weights=away**2, minlength=size)
        m3 = np.bincount(codes, weights=away**3, minlength=size)
        self._table = _merged(self._table, np.stack([count, mean, m2, m3]))

    def at(self, code: int) -> Moments:
        """Return the moments of a part, those of nothing where it has no value."""
        if code >= self._table.shape[1]:
            return Moments()
        n, mean, m2, m3 = self._table[:, code].tolist()
        return Moments(n=int(n), mean=mean, m2=m2, m3=m3)


def _merged(one: Values, two: Values) -> Values:
    """Return the moments of both tables; see `explain.statistics.moments`.

    Shape: (4, parts) each: n, mean, m2, m3.
    """
    n = one[0] + two[0]
    whole = np.maximum(n, 1)
    shift = np.where((one[0] > 0) & (two[0] > 0), two[1] - one[1], 0.0)
    cross = shift * one[0] * two[0] / whole
    mean = np.where(one[0] > 0, one[1] + shift * two[0] / whole, two[1])
    m2 = one[2] + two[2] + shift * cross
    m3 = (
        one[3]
        + two[3]
        + shift * cross * shift * (one[0] - two[0]) / whole
        + 3 * shift * (one[0] * two[2] - two[0] * one[2]) / whole
    )
    return np.stack([n, mean, m2, m3])


class GroupedSums:
    """The sum and the count of each cell of a column."""

    def __init__(self) -> None:
        self._table: Values = np.zeros((2, 0))

    def extend(self, codes: Codes, values: Values) -> None:
        """The cells are longer by these values.

        Shape: codes, values (n,).
        """
        cells = int(codes.max()) + 1 if len(codes) else 0
        self._table = _grown(self._table, cells)
        # At the places of this chunk only: there may be a million others.
        touched, places = np.unique(codes, return_inverse=True)
        self._table[0, touched] += np.bincount(places, weights=values)
        self._table[1, touched] += np.bincount(places)

    def of(self, cells: npt.NDArray[np.intp]) -> ClusterSums:
        """Return the sums of those cells that have a value."""
        known = cells[cells < self._table.shape[1]]
        sums, counts = self._table[0, known], self._table[1, known]
        held = counts > 0
        return ClusterSums(sums=sums[held], counts=counts[held].astype(np.int64))


def _grown(table: Values, parts: int) -> Values:
    """Return the table with room for the parts, in steps that double."""
    rows, size = table.shape
    if parts <= size:
        return table
    wider = np.zeros((rows, max(parts, 2 * size)))
    wider[:, :size] = table
    return wider

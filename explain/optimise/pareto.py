# SPDX-License-Identifier: Apache-2.0
"""Pareto fronts: what nothing else beats in everything, and how much it covers.

A point dominates another when it is nowhere worse and somewhere better. Points are
rows of gains, which are better the higher they are.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError

Floats = npt.NDArray[np.float64]


def non_dominated(gains: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which points no other dominates; equal points stand or fall together.

    Shape: gains (M, D) -> (M,) bool.

    Raises:
        InvalidInputError: a gain is no number, or the shape is another.
    """
    points = _points(gains)
    stays = np.ones(len(points), dtype=np.bool_)
    for place, point in enumerate(points):
        no_worse = (points >= point).all(axis=1)
        better = (points > point).any(axis=1)
        stays[place] = not (no_worse & better).any()
    return stays


def hypervolume(gains: npt.ArrayLike) -> float:
    """Return the volume of all that lies between the origin and some point.

    Exact, by slicing along one axis after the other; meant for two or three. Gains
    below 0 are no better than the origin in that axis and count as 0.

    Shape: gains (M, D).

    Source: Zitzler and Thiele 1998, "Multiobjective optimization using evolutionary
    algorithms"; While et al. 2006, "A faster algorithm for calculating hypervolume"
    (slicing objectives).

    Raises:
        InvalidInputError: a gain is no number, or the shape is another.
    """
    return _volume(np.maximum(_points(gains), 0.0))


def _volume(points: Floats) -> float:
    """Return the volume of gains of at least 0."""
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    heights = np.unique(np.append(points[:, -1], 0.0))[::-1]
    total = 0.0
    # Between two heights the slice is that of the points that reach the upper one.
    for upper, lower in pairwise(heights):
        slice_ = points[points[:, -1] >= upper, :-1]
        total += float(upper - lower) * _volume(slice_)
    return total


def _points(gains: npt.ArrayLike) -> Floats:
    points = np.asarray(gains, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] == 0 or np.isnan(points).any():
        raise InvalidInputError(
            f"Expected a row of gains a point, all of them numbers, got shape"
            f" {points.shape} with {int(np.isnan(points).sum())} that are none."
        )
    return points

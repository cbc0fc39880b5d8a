# SPDX-License-Identifier: Apache-2.0
"""Figures with their 95 % intervals, as plain documents that JSON can hold."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explain.statistics import bootstrap_mean_interval

#: ``value``, ``low``, ``high`` (None where there is none) and ``n``.
Figure = dict[str, float | int | None]


def mean_of(values: Sequence[float], sequences: Sequence[str]) -> Figure:
    """Return the mean of the values that there are; whole sequences are drawn.

    Args:
        values: One an item, NaN where an item has none.
        sequences: What each item is a frame of; frames of one are alike.
    """
    column = np.array(values, dtype=np.float64)
    there = np.isfinite(column)
    found = int(there.sum())
    if not found:
        return {"value": None, "low": None, "high": None, "n": 0}
    interval = bootstrap_mean_interval(
        column[there], subjects=np.array(sequences)[there]
    )
    return {
        "value": float(column[there].mean()),
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "n": found,
    }


def median_of(values: Sequence[float]) -> Figure:
    """Return the median of rounds, between the order statistics that hold it at 95 %.

    Fewer than six rounds cannot hold it at that confidence, so they get no interval.
    """
    ordered = sorted(values)
    rank = _rank(len(ordered))
    return {
        "value": statistics.median(ordered),
        "low": None if rank is None else ordered[rank],
        "high": None if rank is None else ordered[-1 - rank],
        "n": len(ordered),
    }


def _rank(count: int) -> int | None:
    """Return how many values may lie outside on each side, or None for too few."""
    outside, chosen = 0.0, None
    for rank in range(count // 2):
        outside += 2 * math.comb(count, rank) / 2**count
        if outside > 0.05:
            break
        chosen = rank
    return chosen


def shown(figure: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Return a figure as tables show it."""
    if figure is None or figure["value"] is None:
        return "none"
    text = f"{figure['value']:.{digits}f}"
    if figure["low"] is None:
        return text
    return f"{text} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"

# SPDX-License-Identifier: Apache-2.0
"""Times in interleaved rounds: on a machine with neighbours only ratios mean much."""

import time
from collections.abc import Callable, Mapping, Sequence

from paper_tables.figures import Figure, median_of

Seconds = dict[str, list[float]]


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> Seconds:
    """Return the seconds of each call in each round; a first round warms up.

    The order rotates from round to round, so that none always follows the same one.
    """
    names = list(calls)
    found: Seconds = {name: [] for name in names}
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            begun = time.perf_counter()
            calls[name]()
            if turn:
                found[name].append(time.perf_counter() - begun)
    return found


def ratio(above: Sequence[float], below: Sequence[float]) -> Figure:
    """Return the median of the ratios within rounds."""
    return median_of([one / two for one, two in zip(above, below, strict=True)])

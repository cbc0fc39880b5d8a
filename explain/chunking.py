# SPDX-License-Identifier: Apache-2.0
"""Many forward passes in pieces of bounded size, halved when memory runs out."""

from collections.abc import Callable

import torch


def per_pass(items: int, chunk: int) -> int:
    """Return how many perturbations of each item go into one forward pass.

    At least one, so that a batch larger than the chunk goes as it is. The shape of
    a pass then depends on the run's batch size and chunk alone, and so do last bits.
    """
    return max(1, chunk // max(1, items))


def in_pieces(total: int, size: int, work: Callable[[int, int], None]) -> bool:
    """Do the work on 0 .. total in consecutive ranges; return whether one was halved.

    When the device has too little memory for a range, the ranges are halved from
    there on; what was done stays done.

    Args:
        total: How many units there are.
        size: Units in a range.
        work: Does the range [start, stop); must have no effect when it raises.

    Raises:
        torch.OutOfMemoryError: a single unit does not fit.
    """
    start, halved = 0, False
    while start < total:
        stop = min(start + size, total)
        try:
            work(start, stop)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size, halved = size // 2, True
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start = stop
    return halved

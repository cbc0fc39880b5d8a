# SPDX-License-Identifier: Apache-2.0
"""A bound on the memory that threads take together, kept by waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class MemoryBudget:
    """Bytes that are lent to threads and given back; who asks too early waits.

    A thread holds one loan at a time, so that none waits for a loan while it holds
    another and all can go on.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._changed = Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """The block has this many bytes for itself; more than there are means all.

        Units: bytes.
        """
        size = min(size, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()

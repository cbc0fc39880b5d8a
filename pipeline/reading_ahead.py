# SPDX-License-Identifier: Apache-2.0
"""Batches that are read, decoded and staged in threads, ahead of the computation.

The threads begin when the object is made, so that a shard's first batches can be read
while the one before it is computed. How far they run ahead is bounded: whoever takes a
batch starts the next one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pipeline.domain import ManifestItem
from pipeline.preparing import PreparedItem, Preparer

#: Batches that are read ahead of the one being computed.
BATCHES_AHEAD = 2


T = TypeVar("T")


class ReadAhead(Generic[T]):
    """The batches of one shard in order, a bounded number of them prepared ahead."""

    def __init__(
        self,
        preparer: Preparer,
        items: Sequence[ManifestItem],
        *,
        batch_size: int,
        threads: int,
        stage: Callable[[list[PreparedItem]], T],
    ) -> None:
        """Begin to read.

        Args:
            preparer: What reads and decodes.
            items: The shard's slice of the manifest.
            batch_size: Items in a batch.
            threads: Threads that read and decode.
            stage: What is done with a batch once its items are there, in a thread.
        """
        self._preparer = preparer
        self._stage = stage
        self._batches = deque(
            items[start : start + batch_size]
            for start in range(0, len(items), batch_size)
        )
        self._waiting: deque[Future[T]] = deque()
        self._parts: deque[list[Future[PreparedItem]]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._stager = ThreadPoolExecutor(1, thread_name_prefix="stage")
        for _ in range(BATCHES_AHEAD):
            self._begin_next()

    @property
    def is_reading_last(self) -> bool:
        """Whether every batch has been begun, so that threads are about to be idle."""
        return not self._batches

    def _begin_next(self) -> None:
        if not self._batches:
            return
        parts = [
            self._pool.submit(self._preparer.prepare, item)
            for item in self._batches.popleft()
        ]
        self._parts.append(parts)
        self._waiting.append(self._stager.submit(self._staged, parts))

    def _staged(self, parts: list[Future[PreparedItem]]) -> T:
        return self._stage([part.result() for part in parts])

    def __iter__(self) -> Iterator[T]:
        """Yield the batches in order."""
        while self._waiting:
            batch = self._waiting.popleft().result()
            self._parts.popleft()
            self._begin_next()
            yield batch

    def close(self) -> None:
        """No thread is left; what was not taken is dropped."""
        self._batches.clear()
        futures: list[Future[Any]] = [*self._waiting]
        # The stager's own first, or it would wait for items that are cancelled.
        futures += [part for parts in self._parts for part in parts]
        for future in futures:
            future.cancel()
        self._pool.shutdown()
        self._stager.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

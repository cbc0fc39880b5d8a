# SPDX-License-Identifier: Apache-2.0
"""What the work on shards tells whoever measures it; by default nobody listens.

Numbers and words of fixed lists only: no run, no file, no text from outside passes, so
that whatever is made of it (`workers.metrics`) holds nothing personal and stays small.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")


class Stage(StrEnum):
    """Where the time of a shard goes."""

    #: Taking the lease.
    CLAIM = "claim"
    #: The computation waits for inputs that are read and decoded beside it.
    WAIT = "wait"
    #: Explaining, cutting and measuring a batch.
    EXPLAIN = "explain"
    #: Writing the artifact's Parquet file.
    PACK = "pack"
    #: Storing it.
    PUT = "put"
    #: Rows, ledger and state in one transaction.
    FINISH = "finish"
    #: Loading a network.
    LOAD = "load"


class Telemetry(Protocol):
    """Told what happens to shards in this process, from any thread."""

    def stage(self, stage: Stage, seconds: float) -> None:
        """A stage took so long."""

    def batch(self, items: int, places: int) -> None:
        """A batch with so many items, of so many that it has room for, is through."""

    def items(self, *, done: int, failed: int) -> None:
        """So many items of a finished shard have their results."""

    def shard(self, outcome: str) -> None:
        """The work on a claim ended: finished, released, fenced_out, failed."""

    def retry(self) -> None:
        """A claim was not its shard's first."""

    def bytes_read(self, count: int) -> None:
        """So much of the inputs was read."""

    def bytes_written(self, count: int) -> None:
        """So much was stored."""

    def model_loaded(self) -> None:
        """A network was loaded."""

    def hint(self, what: str) -> None:
        """A hint was followed, stale, refused or sent."""

    def leases_expired(self, count: int) -> None:
        """So many leases were found to have run out."""

    def orphans_collected(self, count: int) -> None:
        """So many objects that no row names were deleted."""


class Silence:
    """Tells nobody."""

    def stage(self, stage: Stage, seconds: float) -> None:
        """See `Telemetry.stage`."""

    def batch(self, items: int, places: int) -> None:
        """See `Telemetry.batch`."""

    def items(self, *, done: int, failed: int) -> None:
        """See `Telemetry.items`."""

    def shard(self, outcome: str) -> None:
        """See `Telemetry.shard`."""

    def retry(self) -> None:
        """See `Telemetry.retry`."""

    def bytes_read(self, count: int) -> None:
        """See `Telemetry.bytes_read`."""

    def bytes_written(self, count: int) -> None:
        """See `Telemetry.bytes_written`."""

    def model_loaded(self) -> None:
        """See `Telemetry.model_loaded`."""

    def hint(self, what: str) -> None:
        """See `Telemetry.hint`."""

    def leases_expired(self, count: int) -> None:
        """See `Telemetry.leases_expired`."""

    def orphans_collected(self, count: int) -> None:
        """See `Telemetry.orphans_collected`."""


SILENCE = Silence()


@contextmanager
def timed(telemetry: Telemetry, stage: Stage) -> Iterator[None]:
    """The time that the block takes is told, also if it raises."""
    started = time.perf_counter()
    try:
        yield
    finally:
        telemetry.stage(stage, time.perf_counter() - started)


def waiting_timed(telemetry: Telemetry, batches: Iterable[T]) -> Iterator[T]:
    """Yield the batches; how long each was waited for is told."""
    source = iter(batches)
    while True:
        started = time.perf_counter()
        try:
            batch = next(source)
        except StopIteration:
            return
        telemetry.stage(Stage.WAIT, time.perf_counter() - started)
        yield batch

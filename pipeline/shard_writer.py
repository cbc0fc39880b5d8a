# SPDX-License-Identifier: Apache-2.0
"""A thread that writes computed shards, one at a time, while the next is computed."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self

from pipeline.services import Services
from pipeline.shard_computing import ComputedShard
from pipeline.shard_work import INFRASTRUCTURE_FAILURES, SHARD_FAILURES, Outcome
from pipeline.shard_writing import write_shard
from storage.errors import FencedOutError
from storage.leases import Claim


class Ends(Protocol):
    """Who is told, in the writer's thread, how the writing of a shard ended."""

    def failed(self, claim: Claim, error: Exception) -> None:
        """The failed attempt is recorded; raise to end all work."""

    def left(self, claim: Claim, outcome: Outcome) -> None:
        """The work on the claim has ended."""


class ShardWriter:
    """Packs, puts and finishes shards in order; their leases are renewed meanwhile."""

    def __init__(self, services: Services, ends: Ends) -> None:
        self._services = services
        self._ends = ends
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: Future[None] | None = None
        self._held: ComputedShard | None = None
        #: Whether a shard could not be written in a way that ends all work.
        self.has_broken = False

    def submit(self, computed: ComputedShard) -> None:
        """The shard is being written; the one before it has been.

        Raises:
            Exception: what made all work end with the one before.
        """
        self.drain()
        self._held = computed
        self._writing = self._pool.submit(self._write, computed)

    def holds(self, computed: ComputedShard) -> bool:
        """Whether the shard was taken, so that its lease is the writer's."""
        return self._held is computed

    def drain(self) -> None:
        """Nothing is being written.

        Raises:
            Exception: what made all work end with the last shard.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, computed: ComputedShard) -> None:
        try:
            outcome = self._outcome(computed)
            self._services.telemetry.shard(outcome.value)
            self._ends.left(computed.claim, outcome)
        except (*INFRASTRUCTURE_FAILURES, *SHARD_FAILURES) as exc:
            try:
                self._ends.failed(computed.claim, exc)
            except BaseException:
                self.has_broken = True
                raise
        except BaseException:
            self.has_broken = True
            raise
        finally:
            computed.keeper.stop()

    def _outcome(self, computed: ComputedShard) -> Outcome:
        try:
            write_shard(self._services, computed)
        except FencedOutError:
            return Outcome.FENCED_OUT
        return Outcome.FINISHED

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        if value is None:
            self.drain()

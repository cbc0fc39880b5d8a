# SPDX-License-Identifier: Apache-2.0
"""Shard after shard with their waits overlapped: read the next, write the last.

While shard k is computed in this thread, shard k-1 is packed, put and finished in a
thread, and shard k+1 is claimed and its first batches are read. At most one shard is
being written and one is claimed ahead.

A worker that is killed takes the shards beside the one in work with it, so an innocent
shard may lose an attempt. It loses one at most: a shard that was attempted before is
worked on alone, with nothing being written or claimed beside it.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from pipeline.run_context import RunContext
from pipeline.services import Services
from pipeline.shard_computing import OpenShard
from pipeline.shard_work import INFRASTRUCTURE_FAILURES, SHARD_FAILURES, Outcome
from pipeline.shard_writer import ShardWriter
from storage.errors import FencedOutError, StorageError
from storage.leases import Claim, release


class Desk(Protocol):
    """Where claims come from and ends are reported to; it may be asked in threads."""

    def claim_ahead(self) -> Claim | None:
        """Return the claim on a shard that was never attempted, None where all is."""

    def context(self, claim: Claim) -> RunContext:
        """Return the run's context, its network loaded if need be."""

    def ready_context(self, claim: Claim) -> RunContext | None:
        """Return the run's context if that takes no time."""

    def failed(self, claim: Claim, error: Exception) -> None:
        """The failed attempt is recorded; raise to end all work."""

    def left(self, claim: Claim, outcome: Outcome) -> None:
        """The work on the claim has ended."""


class ShardStream:
    """Works on claims, one after the other, until there are none ahead."""

    def __init__(
        self,
        services: Services,
        desk: Desk,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_batch: Callable[[int], None] = lambda _items: None,
    ) -> None:
        """Take the parts.

        Args:
            services: Database and stores.
            desk: Whose work it is.
            stop: Asked at each batch boundary; True gives everything back.
            on_batch: Told the number of items after each batch.
        """
        self._services = services
        self._desk = desk
        self._stop = stop
        self._on_batch = on_batch
        self._gave_back = False

    def run(self, claim: Claim) -> bool:
        """Return whether nothing was given back; all that was begun has ended.

        Raises:
            Exception: what the desk raised about a failure.
        """
        self._gave_back = False
        with (
            ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool,
            ShardWriter(self._services, self._desk) as writer,
        ):
            shard: OpenShard | None = OpenShard(self._services, claim)
            while shard is not None:
                ahead = _ClaimAhead(self._services, self._desk, pool)
                try:
                    goes_on = self._work_on(shard, ahead, writer)
                except BaseException:
                    ahead.give_back()
                    raise
                if goes_on:
                    shard = ahead.take()
                else:
                    self._gave_back = ahead.give_back() or self._gave_back
                    shard = None
        return not self._gave_back

    def _work_on(
        self, shard: OpenShard, ahead: "_ClaimAhead", writer: ShardWriter
    ) -> bool:
        """Work on one shard; return whether to go on with what was claimed ahead."""
        claim, computed = shard.claim, None
        try:
            if self._must_stop(shard, writer):
                return self._give_back(claim)
            context = self._desk.context(claim)
            alone = is_worked_on_alone(context, claim)
            if alone:
                writer.drain()
            computed = shard.compute(
                context,
                stop=lambda: self._stop() or writer.has_broken,
                on_batch=self._on_batch,
                on_step=ahead.alive,
                on_idle_readers=_nothing if alone else ahead.begin,
            )
            if computed is None:
                return self._give_back(claim)
            writer.submit(computed)
            if alone:
                writer.drain()
        except FencedOutError:
            self._left(claim, Outcome.FENCED_OUT)
        except (*INFRASTRUCTURE_FAILURES, *SHARD_FAILURES) as exc:
            self._desk.failed(claim, exc)
            # What failed here would fail the next one too.
            return not isinstance(exc, INFRASTRUCTURE_FAILURES)
        finally:
            shard.close(keep_lease=computed is not None and writer.holds(computed))
        return True

    def _must_stop(self, shard: OpenShard, writer: ShardWriter) -> bool:
        """Whether a shard that has not been begun had better not be."""
        return self._stop() or writer.has_broken or shard.keeper.must_stop

    def _give_back(self, claim: Claim) -> bool:
        release(self._services.engine, claim)
        self._gave_back = True
        self._left(claim, Outcome.RELEASED)
        return False

    def _left(self, claim: Claim, outcome: Outcome) -> None:
        self._services.telemetry.shard(outcome.value)
        self._desk.left(claim, outcome)


def is_worked_on_alone(context: RunContext, claim: Claim) -> bool:
    """Whether no other shard may share the fate of this one's attempt."""
    return claim.attempt > 1 or context.spec.run.max_attempts == 1


def _nothing() -> None:
    """Stand in for a claim ahead where there is to be none."""


class _ClaimAhead:
    """The shard that comes next, claimed and read in a thread once that is due."""

    def __init__(
        self, services: Services, desk: Desk, pool: ThreadPoolExecutor
    ) -> None:
        self._services = services
        self._desk = desk
        self._pool = pool
        self._found: Future[OpenShard | None] | None = None

    def begin(self) -> None:
        """The claim is on its way."""
        if self._found is None:
            self._found = self._pool.submit(self._claim)

    def alive(self) -> None:
        """Work goes on, so the lease of the waiting shard is to be renewed."""
        if self._found is not None and self._found.done():
            shard = self._found.result()
            if shard is not None:
                shard.keeper.alive()

    def take(self) -> OpenShard | None:
        """Return the shard, None where there was none to claim."""
        found, self._found = self._found, None
        return None if found is None else found.result()

    def give_back(self) -> bool:
        """The shard is claimable again; return whether there was one."""
        shard = self.take()
        if shard is None:
            return False
        shard.close()
        # A database that is away leaves it to the end of the lease.
        with suppress(StorageError):
            release(self._services.engine, shard.claim)
            self._services.telemetry.shard(Outcome.RELEASED.value)
            self._desk.left(shard.claim, Outcome.RELEASED)
        return True

    def _claim(self) -> OpenShard | None:
        try:
            claim = self._desk.claim_ahead()
        except StorageError:
            # Whoever needs the next shard asks again, and is told.
            return None
        if claim is None:
            return None
        shard = OpenShard(self._services, claim)
        context = self._desk.ready_context(claim)
        if context is not None:
            # What fails here fails again, and is reported, when its turn comes.
            with suppress(*INFRASTRUCTURE_FAILURES, *SHARD_FAILURES):
                shard.prepare(context)
        return shard

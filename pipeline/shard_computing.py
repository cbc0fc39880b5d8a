# SPDX-License-Identifier: Apache-2.0
"""Computing a claimed shard: its batches are read ahead, explained and collected.

The lease is renewed from the moment the shard is opened until it is closed or, once
computed, written.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.domain import ItemResult
from pipeline.lease_keeper import LeaseKeeper
from pipeline.manifest_slice import load_items
from pipeline.reading_ahead import ReadAhead
from pipeline.run_context import RunContext
from pipeline.services import Services
from pipeline.single_steps import prepare_in_single_steps
from pipeline.staging import StagedBatch
from pipeline.telemetry import Stage, timed, waiting_timed
from storage.errors import FencedOutError
from storage.leases import Claim

#: SHA-256 of an item's input and of its ground-truth mask, unsalted.
Digests = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputedShard:
    """A shard whose items are explained and not yet written.

    Attributes:
        claim: The fence.
        context: The run.
        keeper: Renews the lease until the shard is written.
        results: The items in manifest order.
        digests: Of each item's input and ground truth.
        halved: Whether a batch had to be halved.
        work_s: Seconds of the work at its steady pace, the first batch's start-up
            left out.
    """

    claim: Claim
    context: RunContext
    keeper: LeaseKeeper
    results: list[ItemResult]
    digests: list[Digests]
    halved: bool
    work_s: float


class OpenShard:
    """A claimed shard: its lease is renewed and its first batches may be read."""

    def __init__(self, services: Services, claim: Claim) -> None:
        """Begin to renew the lease."""
        self._services = services
        self._context: RunContext | None = None
        self._reading: ReadAhead[StagedBatch] | None = None
        self._item_count = claim.item_count
        self.claim = claim
        settings = services.settings
        self.keeper = LeaseKeeper(
            services.engine, claim, lease_s=settings.lease_s, stall_s=settings.stall_s
        )
        self.keeper.start()

    def prepare(self, context: RunContext) -> None:
        """The first batches are being read, unless items are to be tried one by one."""
        if self._context is not None:
            return
        items = load_items(self._services, self.claim)
        self._item_count = len(items)
        if not self.claim.single_steps:
            self._reading = ReadAhead(
                context.preparer,
                items,
                batch_size=context.plan.batch_size,
                threads=context.decode_threads,
                stage=context.executor.stage,
            )
        self._context = context

    def close(self, *, keep_lease: bool = False) -> None:
        """Nothing is read any more, and the lease is renewed only if it is kept."""
        if self._reading is not None:
            self._reading.close()
        if not keep_lease:
            self.keeper.stop()

    @property
    def is_reading_last(self) -> bool:
        """Whether the threads that read are about to be idle."""
        return self._reading is not None and self._reading.is_reading_last

    @contextmanager
    def _batches(self, context: RunContext) -> Iterator[Iterator[StagedBatch]]:
        """The batches in order, staged; in single steps each item was tried alone."""
        if self._reading is not None:
            with self._reading:
                yield iter(self._reading)
            return
        batches = prepare_in_single_steps(
            self._services.engine,
            self.claim,
            context.preparer,
            context.executor,
            load_items(self._services, self.claim),
            batch_size=context.plan.batch_size,
        )
        yield map(context.executor.stage, batches)

    def compute(
        self,
        context: RunContext,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_batch: Callable[[int], None] = lambda _items: None,
        on_step: Callable[[], None] = lambda: None,
        on_idle_readers: Callable[[], None] = lambda: None,
    ) -> ComputedShard | None:
        """Return the shard computed, or None where it was stopped at a batch boundary.

        Args:
            context: The run.
            stop: Asked at each batch boundary but the last.
            on_batch: Told the number of items after each batch.
            on_step: Told after each forward pass.
            on_idle_readers: Told, perhaps more than once, when the threads that read
                have nothing more to begin.

        Raises:
            FencedOutError: the lease is lost.
        """
        self.prepare(context)
        results: list[ItemResult] = []
        digests: list[Digests] = []
        halved, pace = False, _Pace()
        telemetry = self._services.telemetry

        def step() -> None:
            self.keeper.alive()
            on_step()

        with self._batches(context) as batches, context.executor.session(step):
            waited = waiting_timed(telemetry, batches)
            for number, batch in enumerate(waited, start=1):
                if self.is_reading_last:
                    on_idle_readers()
                with timed(telemetry, Stage.EXPLAIN):
                    output = context.executor.explain_staged(batch)
                telemetry.batch(len(batch.items), context.plan.batch_size)
                results += output.results
                digests += [(s.content_sha256, s.truth_sha256) for s in batch.items]
                halved = halved or output.halved
                pace.add(len(batch.items))
                self.keeper.progress(number)
                on_batch(len(batch.items))
                complete = len(results) == self._item_count
                if self.keeper.lost:
                    name = self.claim.object_name
                    raise FencedOutError(f"The lease of {name} is lost.")
                if not complete and (stop() or self.keeper.unwanted):
                    return None
        return ComputedShard(
            claim=self.claim,
            context=context,
            keeper=self.keeper,
            results=results,
            digests=digests,
            halved=halved,
            work_s=pace.seconds,
        )


class _Pace:
    """How long the work takes at its steady pace, whatever its start took."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._first: tuple[float, int] | None = None
        self._now = self._began
        self._items = 0

    def add(self, items: int) -> None:
        """Another batch is done."""
        self._now = time.perf_counter()
        self._items += items
        if self._first is None:
            self._first = (self._now, items)

    @property
    def seconds(self) -> float:
        """Seconds of all items at the pace of those behind the first batch."""
        if self._first is None or self._items == self._first[1]:
            return self._now - self._began
        at, items = self._first
        return (self._now - at) * self._items / (self._items - items)

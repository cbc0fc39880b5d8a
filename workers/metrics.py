# SPDX-License-Identifier: Apache-2.0
"""What a worker process counts, in the words of Prometheus.

Every label has few values, all of them ours. A process has a registry of its own, so
that nothing else that a library may register is served with it.
"""

from functools import lru_cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from pipeline.telemetry import Stage
from storage.states import ItemStatus

#: From what a heartbeat takes to the longest shard that anybody should plan.
STAGE_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OCCUPANCY_BUCKETS = (0.25, 0.5, 0.75, 0.9, 0.999, 1.0)

OUTCOMES = ("finished", "released", "fenced_out", "failed")
HINTS = ("followed", "stale", "refused", "sent")


class WorkerMetrics:
    """The counters of one process; a `pipeline.telemetry.Telemetry`."""

    def __init__(self) -> None:
        # A second series for each, with the moment of its birth, helps nobody here.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._items = self._counter("items", "Items of finished shards.", "status")
        self._shards = self._counter("shards", "Claims, by how they ended.", "outcome")
        self._retries = self._counter("shard_retries", "Claims but a shard's first.")
        self._read = self._counter("read_bytes", "Bytes of inputs read.")
        self._written = self._counter("written_bytes", "Bytes of artifacts stored.")
        self._models = self._counter("model_loads", "Networks loaded.")
        self._hints = self._counter("hints", "Hints, by what became of them.", "what")
        self._expiries = self._counter("lease_expiries", "Leases found run out.")
        self._orphans = self._counter("orphans_collected", "Objects that no row names.")
        self._stages = Histogram(
            "affidavit_stage_seconds",
            "Time of one stage of the work on a shard or batch.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self._occupancy = Histogram(
            "affidavit_batch_occupancy_ratio",
            "Items in a batch over the places that it has.",
            buckets=OCCUPANCY_BUCKETS,
            registry=self.registry,
        )
        self._clock = Gauge(
            "affidavit_clock_ahead_seconds",
            "How far this machine's clock is ahead of the database's.",
            registry=self.registry,
        )
        self._info = Gauge(
            "affidavit_worker_info",
            "What this worker is; always 1.",
            ["queue", "version"],
            registry=self.registry,
        )
        self._start_at_zero()

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"affidavit_{name}", says, labels, registry=self.registry)

    def _start_at_zero(self) -> None:
        """Every series is there from the start: a first event is a rise as well."""
        for status in ItemStatus:
            self._items.labels(status.value)
        for outcome in OUTCOMES:
            self._shards.labels(outcome)
        for what in HINTS:
            self._hints.labels(what)
        for stage in Stage:
            self._stages.labels(stage.value)

    def stage(self, stage: Stage, seconds: float) -> None:
        """See `Telemetry.stage`."""
        self._stages.labels(stage.value).observe(seconds)

    def batch(self, items: int, places: int) -> None:
        """See `Telemetry.batch`."""
        self._occupancy.observe(items / places)

    def items(self, *, done: int, failed: int) -> None:
        """See `Telemetry.items`."""
        self._items.labels(ItemStatus.DONE.value).inc(done)
        self._items.labels(ItemStatus.FAILED.value).inc(failed)

    def shard(self, outcome: str) -> None:
        """See `Telemetry.shard`."""
        self._shards.labels(outcome if outcome in OUTCOMES else "failed").inc()

    def retry(self) -> None:
        """See `Telemetry.retry`."""
        self._retries.inc()

    def bytes_read(self, count: int) -> None:
        """See `Telemetry.bytes_read`."""
        self._read.inc(count)

    def bytes_written(self, count: int) -> None:
        """See `Telemetry.bytes_written`."""
        self._written.inc(count)

    def model_loaded(self) -> None:
        """See `Telemetry.model_loaded`."""
        self._models.inc()

    def hint(self, what: str) -> None:
        """See `Telemetry.hint`."""
        if what in HINTS:
            self._hints.labels(what).inc()

    def leases_expired(self, count: int) -> None:
        """See `Telemetry.leases_expired`."""
        self._expiries.inc(count)

    def orphans_collected(self, count: int) -> None:
        """See `Telemetry.orphans_collected`."""
        self._orphans.inc(count)

    def clock(self, ahead_s: float) -> None:
        """This machine's clock is so far ahead."""
        self._clock.set(ahead_s)

    def introduce(self, queue: str, version: str) -> None:
        """It is known what this worker is."""
        self._info.labels(queue, version).set(1)


@lru_cache(maxsize=1)
def process_metrics() -> WorkerMetrics:
    """Return the counters of this process."""
    return WorkerMetrics()

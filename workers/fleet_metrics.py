# SPDX-License-Identifier: Apache-2.0
"""What the control worker tells Prometheus of the whole installation, asked of SQL.

Figures are read at a scrape, but not more often than every few seconds. Several control
workers tell the same: take the maximum over them.
"""

import threading
import time
from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.software import other_software
from storage.errors import StorageError
from storage.fleet import FleetFigures, QueueFigures, fleet_figures
from storage.states import RunState, ShardState
from workers.app import COMPUTE_QUEUES, CONTROL_QUEUE

#: Seconds for which figures are kept.
KEEP_S = 5.0

#: What a worker may say of its device; anything else is `other`.
DEVICES = ("cpu", "cuda", "mps", "none", "missing")


class FleetCollector(Collector):
    """Gauges of queues, runs, workers and the ledger."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._figures: FleetFigures | None = None
        self._read_at = float("-inf")

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield nothing: registering must not ask the database."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield each family; without a database only that it does not answer."""
        figures = self._current()
        yield _gauge(
            "database_up", "Whether the database answers.", float(figures is not None)
        )
        if figures is None:
            return
        yield from _of_queues(figures.queues)
        yield _runs(figures)
        yield _workers(figures)
        yield _without_able_worker(figures)
        yield _gauge(
            "ledger_unsigned_age_seconds",
            "Age of the last checkpoint while entries are under none, else 0.",
            figures.unsigned_s,
        )

    def _current(self) -> FleetFigures | None:
        with self._lock:
            if time.monotonic() - self._read_at > KEEP_S:
                try:
                    self._figures = fleet_figures(self._engine)
                except StorageError:
                    self._figures = None
                self._read_at = time.monotonic()
            return self._figures


def _gauge(name: str, says: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"affidavit_{name}", says, value=value)


def _family(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"affidavit_{name}", says, labels=labels)


def _of_queues(queues: Mapping[str, QueueFigures]) -> Iterator[GaugeMetricFamily]:
    shards = _family(
        "queue_shards", "Shards of open runs; dead ones for a day.", "queue", "state"
    )
    oldest = _family(
        "oldest_pending_shard_age_seconds",
        "How long the shard waits that waits longest; 0 where none does.",
        "queue",
    )
    idle = _family(
        "queue_idle_seconds",
        "Seconds without a claim while a shard waits; 0 where none does.",
        "queue",
    )
    for queue in COMPUTE_QUEUES:
        found = queues.get(queue, QueueFigures())
        for state in ShardState:
            shards.add_metric([queue, state.value], found.shards.get(state.value, 0))
        oldest.add_metric([queue], found.oldest_pending_s or 0.0)
        idle.add_metric([queue], found.idle_s or 0.0)
    yield from (shards, oldest, idle)


def _runs(figures: FleetFigures) -> GaugeMetricFamily:
    family = _family("runs", "Runs by state.", "state")
    for state in RunState:
        family.add_metric([state.value], figures.runs.get(state.value, 0))
    return family


def _workers(figures: FleetFigures) -> GaugeMetricFamily:
    family = _family("live_workers", "Workers seen lately.", "queue", "device")
    counted: dict[tuple[str, str], int] = {
        # A queue without workers is a zero that an alert can see.
        **{(queue, "cpu"): 0 for queue in COMPUTE_QUEUES},
        (CONTROL_QUEUE, "none"): 0,
    }
    for (queue, device), count in figures.workers.items():
        key = (
            queue if queue in {*COMPUTE_QUEUES, CONTROL_QUEUE} else "other",
            device if device in DEVICES else "other",
        )
        counted[key] = counted.get(key, 0) + count
    for (queue, device), count in sorted(counted.items()):
        family.add_metric([queue, device], count)
    return family


def _without_able_worker(figures: FleetFigures) -> GaugeMetricFamily:
    family = _family(
        "runs_without_able_worker",
        "Open runs whose queue has live workers, all with other software.",
        "queue",
    )
    for queue in COMPUTE_QUEUES:
        alive = [software for name, software in figures.software if name == queue]
        count = sum(
            name == queue
            and bool(alive)
            and all(other_software(planned, here) for here in alive)
            for name, planned in figures.open_plans
        )
        family.add_metric([queue], count)
    return family

# SPDX-License-Identifier: Apache-2.0
"""What the command line tells about workers, as plain values."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.services import Services
from pipeline.software import other_software
from storage.run_looks import open_runs
from storage.states import OPEN_RUN_STATES
from storage.tables import RunTable, WorkerTable
from storage.worker_registry import WorkInHand, live_workers, work_in_hand

#: Queues that workers serve; embedded runs need none.
_WORKER_QUEUES = frozenset({"gpu", "cpu"})


def workers_document(services: Services) -> dict[str, Any]:
    """Return the live workers as `affidavit workers` prints them."""
    runs = [run for run in open_runs(services.engine) if run.queue in _WORKER_QUEUES]
    found = work_in_hand(services.engine)
    return {
        "workers": [_worker(each, runs) for each in found],
        "warnings": [
            sentence
            for run in runs
            for sentence in _warnings(run, [each.worker for each in found])
        ],
    }


def run_warnings(services: Services, run: RunTable) -> list[str]:
    """Return why a run that is open may wait for ever, or for some of its workers."""
    if run.state not in OPEN_RUN_STATES or run.queue not in _WORKER_QUEUES:
        return []
    return _warnings(run, live_workers(services.engine))


def work_on_run(engine: sa.Engine, run_id: str) -> list[WorkInHand]:
    """Return the live workers that have a shard of the run in work."""
    return [each for each in work_in_hand(engine) if each.run_id == run_id]


def _worker(found: WorkInHand, runs: Sequence[RunTable]) -> dict[str, Any]:
    worker = found.worker
    return {
        "worker": worker.name,
        "queue": worker.queue,
        "device": worker.device,
        "version": worker.version,
        "software": worker.software or {},
        "run": found.run_id,
        "shard": found.shard_index,
        "busy_s": _rounded(found.busy_s),
        "items": found.items,
        "items_through": found.items_through,
        "seen_s": _rounded(found.seen_s),
        "up_s": _rounded(found.up_s),
        "metrics": worker.metrics_url,
        "clock_ahead_s": _rounded(worker.clock_ahead_s),
        "refuses": [
            run.id
            for run in runs
            if run.queue == worker.queue
            and other_software(_planned(run), worker.software or {})
        ],
    }


def _warnings(run: RunTable, workers: Sequence[WorkerTable]) -> list[str]:
    alive = [worker for worker in workers if worker.queue == run.queue]
    if not alive:
        sentence = (
            f"no worker is alive on the queue '{run.queue}'; run {run.id} waits, start "
            f"one with 'affidavit worker --queue {run.queue}'."
        )
        return [sentence]
    found = [
        (worker.name, other_software(_planned(run), worker.software or {}))
        for worker in alive
    ]
    refusals = [(name, other) for name, other in found if other is not None]
    sentences = [
        f"the worker '{name}' does not take run {run.id}: it has {has}, the run was "
        f"planned with {needs}."
        for name, (has, needs) in refusals
    ]
    if len(refusals) == len(alive):
        sentences.append(
            f"no live worker can take run {run.id}; start one with "
            f"{refusals[0][1][1]}, or cancel the run and submit it anew."
        )
    return sentences


def _planned(run: RunTable) -> dict[str, str]:
    return dict(run.plan.get("versions", {}))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)

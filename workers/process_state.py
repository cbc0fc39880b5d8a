# SPDX-License-Identifier: Apache-2.0
"""What one worker process keeps between tasks: connections and loaded networks."""

import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from pipeline.memory_budget import MemoryBudget
from pipeline.services import Services
from pipeline.settings import Settings, load_settings
from pipeline.software import (
    other_software,
    require_same_software,
    software_versions,
)
from pipeline.telemetry import SILENCE, Stage, Telemetry
from storage.events import local_worker
from storage.run_looks import planned_software
from storage.tables import RunTable

if TYPE_CHECKING:
    from pipeline.networks import NetworkCache
    from pipeline.run_context import RunContext

log = structlog.get_logger()

#: Names of this process's worker, and the file whose presence asks it to stop.
NAME_VARIABLE = "AFFIDAVIT_WORKER_NAME"
QUEUE_VARIABLE = "AFFIDAVIT_WORKER_QUEUE"
STOP_FILE_VARIABLE = "AFFIDAVIT_WORKER_STOP_FILE"

#: Runs whose context is kept. It is small beside its network, but for metrics that keep
#: a copy of the network with random weights.
CONTEXTS_KEPT = 4


class ProcessState:
    """Connections and networks of one process."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._contexts: OrderedDict[str, RunContext] = OrderedDict()
        self._networks: NetworkCache | None = None
        self._decoding = MemoryBudget(services.settings.decoding_bytes)
        #: What was refused already, so that the log says it once.
        self._refused: set[tuple[str, str]] = set()

    def context(self, run: RunTable) -> "RunContext":
        """Return the run's context, its network loaded at the first use.

        Raises:
            OtherSoftwareError: the run was planned with other software.
            ModelError: the weights are not those of the run.
            PathEscapeError: they lie where this worker may not read.
        """
        from pipeline.devices import pick_device  # noqa: PLC0415
        from pipeline.executor_building import build_executor  # noqa: PLC0415
        from pipeline.networks import NetworkCache  # noqa: PLC0415
        from pipeline.run_context import make_context  # noqa: PLC0415
        from pipeline.run_plan import RunPlan  # noqa: PLC0415
        from pipeline.spec import AuditSpec  # noqa: PLC0415
        from pipeline.trust import trust_recorded  # noqa: PLC0415

        settings, telemetry = self.services.settings, self.services.telemetry
        require_same_software(run.plan.get("versions", {}), software_versions())
        plan, spec = RunPlan.from_json(run.plan), AuditSpec.model_validate(run.spec)
        found = self._contexts.get(run.id)
        if found is not None and self._networks is not None:
            self._contexts.move_to_end(run.id)
            self._networks.touch(found.executor.model)
            return found
        # What the row notes is the submitter's word; a worker goes by its own.
        roots = self.services.roots(Path.cwd())
        device = pick_device(plan.device, settings.device)
        if self._networks is None:
            self._networks = NetworkCache(settings.model_cache_mb, device)
        loads, started = self._networks.loads, time.perf_counter()
        with trust_recorded(self.services, spec.model.source, f"run/{run.id}"):
            executor = build_executor(
                spec,
                plan,
                device=device,
                model_sha256=run.model_digest,
                plugins=settings.plugins,
                roots=roots,
                cache=self._networks,
            )
        if self._networks.loads > loads:
            telemetry.stage(Stage.LOAD, time.perf_counter() - started)
            telemetry.model_loaded()
        context = make_context(
            self.services, run, executor, roots=roots, budget=self._decoding
        )
        self._contexts[run.id] = context
        self._forget_contexts(self._networks)
        return context

    def _forget_contexts(self, networks: "NetworkCache") -> None:
        """Contexts whose network left the cache are gone, or it would stay for them."""
        kept = {
            run_id: context
            for run_id, context in self._contexts.items()
            if networks.holds(context.executor.model)
        }
        self._contexts = OrderedDict(list(kept.items())[-CONTEXTS_KEPT:])

    def loaded_context(self, run_id: str) -> "RunContext | None":
        """Return the run's context if it is there already; callable in any thread."""
        return self._contexts.get(run_id)

    def refuses(self, shard_id: int) -> bool:
        """Whether the shard's run was planned with other software than is here.

        Asked before a claim, so that nothing counts against the shard.

        Raises:
            StorageError: the database does not answer.
        """
        return not self.takes(planned_software(self.services.engine, shard_id))

    def takes(self, versions: Mapping[str, str]) -> bool:
        """Whether this process may work on a run planned with these versions."""
        found = other_software(versions, software_versions())
        if found is not None and found not in self._refused:
            self._refused.add(found)
            log.warning("run_refused", version=found[0], needed=found[1])
        return found is None

    @property
    def queue(self) -> str | None:
        """The queue that this process works for."""
        return os.environ.get(QUEUE_VARIABLE)

    @staticmethod
    def stop_asked() -> bool:
        """Whether this worker was told to stop."""
        path = os.environ.get(STOP_FILE_VARIABLE)
        return path is not None and Path(path).exists()


@lru_cache(maxsize=1)
def process_state() -> ProcessState:
    """Return this process's state, made at the first task (after the spawn)."""
    name = os.environ.get(NAME_VARIABLE, "worker")
    settings = load_settings()
    services = Services(
        settings=settings,
        actor=local_worker(name),
        own_roots=(Path.cwd(),),
        telemetry=_telemetry(settings),
    )
    return ProcessState(services)


def _telemetry(settings: Settings) -> Telemetry:
    """Return who is told what happens here: nobody, where no metrics are served."""
    if settings.metrics_port is None:
        return SILENCE
    from workers.metrics import process_metrics  # noqa: PLC0415

    return process_metrics()

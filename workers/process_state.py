# SPDX-License-Identifier: Apache-2.0
"""What one worker process keeps between tasks: connections and loaded networks."""

import os
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from pipeline.services import Services
from pipeline.settings import Settings, load_settings
from pipeline.software import (
    other_software,
    require_same_software,
    software_versions,
)
from pipeline.telemetry import SILENCE, Stage, Telemetry, timed
from storage.events import local_worker
from storage.run_looks import planned_software
from storage.tables import RunTable

if TYPE_CHECKING:
    from pipeline.shard_work import RunContext

log = structlog.get_logger()

#: Names of this process's worker, and the file whose presence asks it to stop.
NAME_VARIABLE = "AFFIDAVIT_WORKER_NAME"
QUEUE_VARIABLE = "AFFIDAVIT_WORKER_QUEUE"
STOP_FILE_VARIABLE = "AFFIDAVIT_WORKER_STOP_FILE"

#: Runs whose network is kept in memory.
MODELS_KEPT = 2


class ProcessState:
    """Connections and networks of one process."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._contexts: OrderedDict[str, RunContext] = OrderedDict()
        #: What was refused already, so that the log says it once.
        self._refused: set[tuple[str, str]] = set()

    def context(self, run: RunTable) -> "RunContext":
        """Return the run's context, its network loaded at the first use.

        Raises:
            OtherSoftwareError: the run was planned with other software.
            ModelError: the weights are not those of the run.
            PathEscapeError: they lie where this worker may not read.
        """
        if run.id in self._contexts:
            self._contexts.move_to_end(run.id)
            return self._contexts[run.id]
        from pipeline.devices import pick_device  # noqa: PLC0415
        from pipeline.planning import build_executor  # noqa: PLC0415
        from pipeline.run_plan import RunPlan  # noqa: PLC0415
        from pipeline.shard_work import make_context  # noqa: PLC0415
        from pipeline.spec import AuditSpec  # noqa: PLC0415
        from pipeline.trust import trust_recorded  # noqa: PLC0415

        require_same_software(run.plan.get("versions", {}), software_versions())
        plan, spec = RunPlan.from_json(run.plan), AuditSpec.model_validate(run.spec)
        # What the row notes is the submitter's word; a worker goes by its own.
        roots = self.services.roots(Path.cwd())
        telemetry = self.services.telemetry
        with (
            timed(telemetry, Stage.LOAD),
            trust_recorded(self.services, spec.model.source, f"run/{run.id}"),
        ):
            executor = build_executor(
                spec,
                plan,
                device=pick_device(plan.device, self.services.settings.device),
                model_sha256=run.model_digest,
                plugins=self.services.settings.plugins,
                roots=roots,
            )
        telemetry.model_loaded()
        context = make_context(self.services, run, executor, roots=roots)
        self._contexts[run.id] = context
        while len(self._contexts) > MODELS_KEPT:
            self._contexts.popitem(last=False)
        return context

    def refuses(self, shard_id: int) -> bool:
        """Whether the shard's run was planned with other software than is here.

        Asked before a claim, so that nothing counts against the shard.

        Raises:
            StorageError: the database does not answer.
        """
        planned = planned_software(self.services.engine, shard_id)
        found = other_software(planned, software_versions())
        if found is not None and found not in self._refused:
            self._refused.add(found)
            log.warning("run_refused", version=found[0], needed=found[1])
        return found is not None

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

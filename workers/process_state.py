# SPDX-License-Identifier: Apache-2.0
"""What one worker process keeps between tasks: connections and loaded networks."""

import os
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.memory_budget import MemoryBudget
from pipeline.services import Services
from pipeline.settings import load_settings
from storage.events import local_worker
from storage.tables import RunTable

if TYPE_CHECKING:
    from pipeline.networks import NetworkCache
    from pipeline.run_context import RunContext

#: Names of this process's worker, and the file whose presence asks it to stop.
NAME_VARIABLE = "AFFIDAVIT_WORKER_NAME"
QUEUE_VARIABLE = "AFFIDAVIT_WORKER_QUEUE"
STOP_FILE_VARIABLE = "AFFIDAVIT_WORKER_STOP_FILE"

#: Runs whose context is kept; it is small beside its network.
CONTEXTS_KEPT = 64


class ProcessState:
    """Connections and networks of one process."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._contexts: OrderedDict[str, RunContext] = OrderedDict()
        self._networks: NetworkCache | None = None
        self._decoding = MemoryBudget(services.settings.decoding_bytes)

    def context(self, run: RunTable) -> "RunContext":
        """Return the run's context, its network loaded at the first use.

        Raises:
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

        settings = self.services.settings
        plan, spec = RunPlan.from_json(run.plan), AuditSpec.model_validate(run.spec)
        found = self._contexts.get(run.id)
        if found is not None and self._networks is not None:
            self._contexts.move_to_end(run.id)
            self._networks.touch(found.executor.network)
            return found
        # What the row notes is the submitter's word; a worker goes by its own.
        roots = self.services.roots(Path.cwd())
        device = pick_device(plan.device, settings.device)
        if self._networks is None:
            self._networks = NetworkCache(settings.model_cache_mb, device)
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
            if networks.holds(context.executor.network)
        }
        self._contexts = OrderedDict(list(kept.items())[-CONTEXTS_KEPT:])

    def loaded_context(self, run_id: str) -> "RunContext | None":
        """Return the run's context if it is there already; callable in any thread."""
        return self._contexts.get(run_id)

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
    services = Services(
        settings=load_settings(), actor=local_worker(name), own_roots=(Path.cwd(),)
    )
    return ProcessState(services)

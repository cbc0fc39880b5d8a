# SPDX-License-Identifier: Apache-2.0
"""What the shards of a run share, made once a process."""

from dataclasses import dataclass

from pipeline.executor import Executor
from pipeline.labels import ClassNames
from pipeline.memory_budget import MemoryBudget
from pipeline.paths import AllowedRoots
from pipeline.preparing import ItemPreparer
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.spec import AuditSpec
from storage.tables import RunTable


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Everything about a run that its shards share, made once a process."""

    run_id: str
    spec: AuditSpec
    plan: RunPlan
    spec_digest: str
    model_digest: str
    executor: Executor
    preparer: ItemPreparer

    @property
    def decode_threads(self) -> int:
        """Threads that read and decode beside the computation."""
        return max(1, min(8, self.plan.threads))


def make_context(
    services: Services,
    run: RunTable,
    executor: Executor,
    *,
    roots: AllowedRoots,
    budget: MemoryBudget | None = None,
) -> RunContext:
    """Return the context in which a run's shards are worked on.

    Args:
        services: How inputs are reached.
        run: The run.
        executor: Its network.
        roots: The folders that this process may read.
        budget: Bounds the memory of all threads of the process that decode; None
            gives this run one of its own.
    """
    spec = AuditSpec.model_validate(run.spec)
    plan = RunPlan.from_json(run.plan)
    columns = spec.data.columns
    return RunContext(
        run_id=run.id,
        spec=spec,
        plan=plan,
        spec_digest=run.spec_digest,
        model_digest=run.model_digest,
        executor=executor,
        preparer=ItemPreparer(
            reader=services.reader(roots),
            preprocess=spec.model.preprocess,
            classes=ClassNames(plan.classes, count=plan.class_count),
            label_required=plan.target == "label",
            mask_required=spec.threshold.keeps_given_regions,
            strict_labels=columns.label is not None,
            budget=budget or MemoryBudget(services.settings.decoding_bytes),
        ),
    )

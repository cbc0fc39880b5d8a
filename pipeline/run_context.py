# SPDX-License-Identifier: Apache-2.0
"""What the shards of a run share, made once a process."""

from dataclasses import dataclass

from explain.kinds import IMAGE
from pipeline.any_executor import AnyExecutor
from pipeline.kinds.kind import open_kind
from pipeline.labels import ClassNames
from pipeline.memory_budget import MemoryBudget
from pipeline.paths import AllowedRoots
from pipeline.preparing import ItemPreparer, Preparer
from pipeline.records import RecordReader
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.spec import AuditSpec
from pipeline.unit_preparing import UnitPreparer
from storage.tables import RunTable


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Everything about a run that its shards share, made once a process."""

    run_id: str
    spec: AuditSpec
    plan: RunPlan
    spec_digest: str
    model_digest: str
    executor: AnyExecutor
    preparer: Preparer

    @property
    def decode_threads(self) -> int:
        """Threads that read and decode beside the computation."""
        return max(1, min(8, self.plan.threads))


def make_context(
    services: Services,
    run: RunTable,
    executor: AnyExecutor,
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
    return RunContext(
        run_id=run.id,
        spec=spec,
        plan=plan,
        spec_digest=run.spec_digest,
        model_digest=run.model_digest,
        executor=executor,
        preparer=preparer_of(services, spec, plan, roots=roots, budget=budget),
    )


def preparer_of(
    services: Services,
    spec: AuditSpec,
    plan: RunPlan,
    *,
    roots: AllowedRoots,
    budget: MemoryBudget | None = None,
) -> Preparer:
    """Return what reads the items of a run as its workers do.

    Args:
        services: How inputs are reached.
        spec: The audit, with absolute paths.
        plan: The plan.
        roots: The folders that may be read.
        budget: Bounds the memory of decoding; None gives one of its own.
    """
    classes = ClassNames(plan.classes, count=plan.class_count)
    strict = spec.data.columns.label is not None
    if plan.kind != IMAGE:
        return UnitPreparer(
            records=RecordReader(services.reader(roots)),
            kind=open_kind(spec),
            classes=classes,
            label_required=plan.target == "label",
            strict_labels=strict,
        )
    return ItemPreparer(
        reader=services.reader(roots),
        preprocess=spec.model.preprocess,
        classes=classes,
        label_required=plan.target == "label",
        mask_required=spec.threshold.keeps_given_regions,
        strict_labels=strict,
        budget=budget or MemoryBudget(services.settings.decoding_bytes),
    )

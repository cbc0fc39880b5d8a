# SPDX-License-Identifier: Apache-2.0
"""From a spec file to a plan: everything checked and resolved, nothing stored yet."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from explain.errors import (
    ExplainError,
    InvalidParameterError,
    UnsupportedModelError,
)
from explain.kinds import IMAGE
from pipeline.any_executor import AnyExecutor
from pipeline.batch_search import (
    MOST_PASSES,
    BatchChoice,
    device_name,
    search_batch_size,
)
from pipeline.devices import pick_device
from pipeline.digests import spec_digest
from pipeline.engine import Engine
from pipeline.errors import ModelError, SpecError
from pipeline.executor import Executor
from pipeline.executor_building import weights_path
from pipeline.kinds.kind import open_kind
from pipeline.labels import ClassNames
from pipeline.models.loading import LoadedModel, load_model
from pipeline.outlook import ForeseenSource
from pipeline.paths import AllowedRoots
from pipeline.plan_drafting import (
    class_names,
    draft_plan,
    resolve_target,
    tapped_layer,
)
from pipeline.plan_history import PlanHistory
from pipeline.planned_precision import with_precision
from pipeline.probe_failures import told_as_sentences
from pipeline.probing import probe
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.shard_sizing import shard_size
from pipeline.sources.source import Source
from pipeline.spec import AuditSpec
from pipeline.spec_checks import CheckedSpec, check_spec
from pipeline.unit_executor import UnitExecutor
from pipeline.unit_planning import planned_units

#: Bytes of an item in the artifact beside its map, and of one metric's value, measured
#: on 256-item shards.
ROW_BYTES = 110
METRIC_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class PreparedAudit:
    """An audit that can be run: the spec, what it resolves to, and the network.

    Attributes:
        written: The spec as its file has it.
        resolved: The spec with absolute paths, as workers need it.
        plan: The fixed facts of a run of it.
        spec_sha256: Digest of what decides results.
        model_sha256: Digest of the weights.
        source: Where the items come from.
        foreseen: The same, which knows what can come of the items once it is listed.
        executor: The network on its device, ready to explain.
    """

    written: AuditSpec
    resolved: AuditSpec
    plan: RunPlan
    spec_sha256: str
    model_sha256: str
    source: Source
    foreseen: ForeseenSource
    executor: AnyExecutor


def prepare(
    services: Services,
    spec_path: Path,
    *,
    device: str | None = None,
    for_device: str | None = None,
) -> PreparedAudit:
    """Return the audit, checked down to one explained batch of noise.

    Args:
        services: Settings, S3 access, and what earlier runs measured, if a database
            is there; none is made.
        spec_path: The spec file.
        device: Overrides `run.device`, for planning work that others will do.
        for_device: Kind of device of those who will do it.

    Raises:
        SpecError: the spec is wrong.
        ModelError: the model cannot be used.
        SourceError: the data source cannot be opened.
        InfrastructureError: the device is not there.
    """
    checked = check_spec(services, spec_path)
    return prepare_checked(services, checked, device=device, for_device=for_device)


def prepare_checked(
    services: Services,
    checked: CheckedSpec,
    *,
    device: str | None = None,
    for_device: str | None = None,
) -> PreparedAudit:
    """Return the audit of a spec whose names and paths were checked before.

    Args:
        services: Settings, S3 access, and what earlier runs measured, if a database
            is there.
        checked: The spec.
        device: Overrides `run.device`.
        for_device: Kind of device of those who will do the work, where it is not the
            device of this machine.

    Raises:
        SpecError, ModelError, InfrastructureError: as `prepare`.
    """
    written, resolved, roots = checked.written, checked.resolved, checked.roots
    chosen = pick_device(device or written.run.device, services.settings.device)
    model = load_model(
        resolved.model,
        weights=weights_path(resolved, roots),
        plugins=services.settings.plugins,
    )
    if resolved.data.kind != IMAGE:
        return _prepared_units(services, checked, model, chosen, for_device)
    history = PlanHistory(services)
    with told_as_sentences(resolved):
        plan = _probed(resolved, model, chosen, roots)
        plan = _with_batch_size(history, plan, resolved, model, chosen, for_device)
        engine = Engine(plan, model.module, chosen)
        if not plan.is_plain:
            plan = with_precision(services, checked, plan, engine, model.module, chosen)
    plan = replace(plan, device=for_device or plan.device)
    plan = _with_shard_size(history, plan, resolved, model.sha256)
    executor = Executor(plan, model.module, chosen, layer=engine.layer)
    return _prepared(checked, plan, model.sha256, executor)


def _prepared_units(
    services: Services,
    checked: CheckedSpec,
    model: LoadedModel,
    device: torch.device,
    for_device: str | None,
) -> PreparedAudit:
    """Return an audit of items that are no images, explained once to be checked."""
    kind = open_kind(checked.resolved)
    with told_as_sentences(checked.resolved):
        plan = planned_units(services, checked, model.module, device, kind)
    plan = replace(plan, device=for_device or plan.device)
    plan = _with_shard_size(PlanHistory(services), plan, checked.resolved, model.sha256)
    executor = UnitExecutor(plan, model.module, device, kind)
    return _prepared(checked, plan, model.sha256, executor)


def _prepared(
    checked: CheckedSpec, plan: RunPlan, model_sha256: str, executor: AnyExecutor
) -> PreparedAudit:
    classes = ClassNames(plan.classes, count=plan.class_count)
    foreseen = ForeseenSource(checked.source, checked.written, classes)
    return PreparedAudit(
        written=checked.written,
        resolved=checked.resolved,
        plan=plan,
        spec_sha256=spec_digest(checked.written, plan),
        model_sha256=model_sha256,
        source=foreseen,
        foreseen=foreseen,
        executor=executor,
    )


def _probed(
    spec: AuditSpec, model: LoadedModel, device: torch.device, roots: AllowedRoots
) -> RunPlan:
    """Explain noise once to learn shapes and speed, and to refuse what cannot work."""
    size = spec.model.preprocess.size
    shape = (len(spec.model.preprocess.mean), *size)
    module = model.module.to(device)
    try:
        layer = tapped_layer(spec, module, shape, device)
        draft = draft_plan(spec, layer, shape, device, roots)
        probed = probe(draft, module, layer, device)
    except UnsupportedModelError as exc:
        raise ModelError(
            f"{str(exc).rstrip('.')}. The spec's model.preprocess makes inputs of "
            f"{'x'.join(map(str, shape))} (channels, height, width)."
        ) from exc
    except InvalidParameterError as exc:
        raise SpecError(str(exc)) from exc
    except ExplainError as exc:
        raise ModelError(str(exc)) from exc
    classes = ClassNames(class_names(spec), count=probed.class_count)
    return replace(
        draft,
        target=resolve_target(spec.explain.target, classes),
        class_count=classes.count,
        classes=classes.names,
        map_shape=list(probed.map_shape),
        passes_per_item=probed.passes_per_item,
        item_seconds=probed.item_seconds,
    )


def _with_batch_size(
    history: PlanHistory,
    plan: RunPlan,
    spec: AuditSpec,
    model: LoadedModel,
    device: torch.device,
    for_device: str | None,
) -> RunPlan:
    """Return the plan with the spec's batch size, or the one that a search finds."""
    if spec.run.batch_size != "auto":
        return plan
    away = for_device is not None and for_device != device.type
    name = None if away else device_name(device)
    done_by = replace(plan, device=for_device or plan.device)
    choice = history.batch_choice(done_by, model.sha256, name)
    if choice is None and (away or (plan.passes_per_item or 0.0) > MOST_PASSES):
        choice = BatchChoice(batch_size=plan.batch_size, source="default")
    if choice is None:
        try:
            choice = search_batch_size(plan, model.module, device)
        except ExplainError as exc:
            raise ModelError(str(exc)) from exc
        history.remember(plan, model.sha256, choice, device_name(device))
    return replace(
        plan,
        batch_size=choice.batch_size,
        batch_source=choice.source,
        batch_trials=dict(choice.trials),
    )


def _with_shard_size(
    history: PlanHistory, plan: RunPlan, spec: AuditSpec, model_sha256: str
) -> RunPlan:
    """Return the plan with shards sized by what like runs took, or by the probe."""
    pace = history.pace(plan, model_sha256)
    if pace is not None:
        plan = replace(
            plan,
            item_seconds=1 / pace.items_per_s,
            speed_source=f"{pace.shards} finished shard{'s' * (pace.shards > 1)}",
        )
    return replace(
        plan,
        shard_size=shard_size(
            spec.run.shard_size,
            batch_size=plan.batch_size,
            item_seconds=plan.item_seconds or 0.0,
        ),
    )


def item_bytes(plan: RunPlan) -> int:
    """Return about how many bytes an item takes in an artifact."""
    metrics = sum(len(card["values"]) for card in plan.cards["metrics"].values())
    return 2 * math.prod(plan.map_shape) + ROW_BYTES + METRIC_BYTES * metrics

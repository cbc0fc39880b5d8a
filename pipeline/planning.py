# SPDX-License-Identifier: Apache-2.0
"""From a spec file to a plan: everything checked and resolved, nothing stored yet."""

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from explain.architectures import TappedLayer
from explain.errors import (
    ExplainError,
    InvalidParameterError,
    UnsupportedModelError,
)
from explain.methods import METHODS, resolve_tap
from explain.metrics import METRICS
from explain.parameters import resolved
from explain.remedies.cards import REMEDIES
from explain.thresholds import POLICIES
from pipeline.devices import pick_device
from pipeline.digests import spec_digest
from pipeline.errors import ModelError, SpecError
from pipeline.executor import Executor
from pipeline.labels import ClassNames
from pipeline.models.loading import LoadedModel, load_model
from pipeline.outlook import ForeseenSource
from pipeline.paths import AllowedRoots
from pipeline.policies import planned_arguments
from pipeline.probe_failures import told_as_sentences
from pipeline.probing import probe
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.software import software_versions
from pipeline.sources.source import Source
from pipeline.spec import HUB, AuditSpec
from pipeline.spec_checks import CheckedSpec, check_spec

#: A shard should take about this long, so that a crash costs little.
TARGET_SHARD_S = 120.0
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
    executor: Executor


def prepare(
    services: Services, spec_path: Path, *, device: str | None = None
) -> PreparedAudit:
    """Return the audit, checked down to one explained batch of noise.

    Args:
        services: Settings and S3 access; neither database nor store is touched.
        spec_path: The spec file.
        device: Overrides `run.device`, for planning work that others will do.

    Raises:
        SpecError: the spec is wrong.
        ModelError: the model cannot be used.
        SourceError: the data source cannot be opened.
        InfrastructureError: the device is not there.
    """
    return prepare_checked(services, check_spec(services, spec_path), device=device)


def prepare_checked(
    services: Services, checked: CheckedSpec, *, device: str | None = None
) -> PreparedAudit:
    """Return the audit of a spec whose names and paths were checked before.

    Raises:
        SpecError, ModelError, InfrastructureError: as `prepare`.
    """
    written, resolved, roots = checked.written, checked.resolved, checked.roots
    chosen = pick_device(device or written.run.device, services.settings.device)
    model = load_model(
        resolved.model,
        weights=_weights_path(resolved, roots),
        plugins=services.settings.plugins,
    )
    with told_as_sentences(resolved):
        plan, executor = _probe(resolved, model, chosen, roots)
    classes = ClassNames(plan.classes, count=plan.class_count)
    foreseen = ForeseenSource(checked.source, written, classes)
    return PreparedAudit(
        written=written,
        resolved=resolved,
        plan=plan,
        spec_sha256=spec_digest(written, plan),
        model_sha256=model.sha256,
        source=foreseen,
        foreseen=foreseen,
        executor=executor,
    )


def _weights_path(spec: AuditSpec, roots: AllowedRoots) -> Path | None:
    weights = spec.model.weights
    if weights is None or weights == HUB:
        return None
    return roots.resolve(weights, base=Path("/"))  # it is absolute by now


def build_executor(
    spec: AuditSpec,
    plan: RunPlan,
    *,
    device: torch.device,
    model_sha256: str,
    plugins: bool,
    roots: AllowedRoots,
) -> Executor:
    """Return an executor for a stored run, its weights checked against the run's.

    Raises:
        ModelError: the weights are not those that the run was planned with.
        PathEscapeError: they lie outside the roots.
    """
    weights = _weights_path(spec, roots)
    model = load_model(spec.model, weights=weights, plugins=plugins)
    if model.sha256 != model_sha256:
        raise ModelError(
            f"The weights have SHA-256 {model.sha256}, but the run was planned with "
            f"{model_sha256}; the file was changed since."
        )
    return Executor(plan, model.module, device)


def _probe(
    spec: AuditSpec, model: LoadedModel, device: torch.device, roots: AllowedRoots
) -> tuple[RunPlan, Executor]:
    """Explain noise once to learn shapes and speed, and to refuse what cannot work."""
    size = spec.model.preprocess.size
    shape = (len(spec.model.preprocess.mean), *size)
    module = model.module.to(device)
    try:
        layer = _layer(spec, module, shape, device)
        draft = _draft_plan(spec, layer, shape, device, roots)
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
    classes = ClassNames(_class_names(spec), count=probed.class_count)
    draft = replace(
        draft,
        target=resolve_target(spec.explain.target, classes),
        class_count=classes.count,
        classes=classes.names,
        map_shape=list(probed.map_shape),
        passes_per_item=probed.passes_per_item,
        item_seconds=probed.item_seconds,
        shard_size=shard_size(
            spec.run.shard_size,
            batch_size=draft.batch_size,
            item_seconds=probed.item_seconds,
        ),
    )
    return draft, Executor(draft, module, device)


def _layer(
    spec: AuditSpec, module: nn.Module, shape: tuple[int, ...], device: torch.device
) -> TappedLayer | None:
    """Return the layer to tap, None for methods that tap none."""
    example = torch.zeros((1, *shape), device=device)
    return resolve_tap(spec.explain.method, module, spec.model.layer, example)


def _class_names(spec: AuditSpec) -> list[str] | None:
    names = spec.model.classes
    if isinstance(names, str):
        raise SpecError(f"model.classes: '{names}' was not resolved to a list.")
    return names


def _draft_plan(
    spec: AuditSpec,
    layer: TappedLayer | None,
    shape: tuple[int, ...],
    device: torch.device,
    roots: AllowedRoots,
) -> RunPlan:
    """Return the plan as far as it is known before the network was asked."""
    run, explain, threshold = spec.run, spec.explain, spec.threshold
    method, policy = METHODS[explain.method], POLICIES[threshold.policy]
    arguments = planned_arguments(threshold)
    draft = RunPlan(
        layer=layer.name if layer is not None else "",
        layer_reason=layer.reason if layer is not None else "the method taps no layer",
        method=explain.method,
        method_arguments=resolved(
            f"method {method.name!r}", method.parameters, explain.parameters
        ),
        remedies={
            name: resolved(f"remedy {name!r}", REMEDIES[name].parameters, given)
            for name, given in explain.remedies.items()
            if given is not None
        },
        grid=explain.grid,
        chunk=run.chunk,
        target="predicted",
        policy=threshold.policy,
        policy_arguments=arguments,
        metrics=list(spec.metrics),
        cards={
            "method": method.document(),
            "policy": policy.document(),
            "metrics": {name: asdict(METRICS[name]) for name in spec.metrics},
        },
        batch_size=run.batch_size,
        threads=run.threads or _cores(),
        dtype="float32",
        device=device.type,
        seed=run.seed,
        input_shape=list(shape),
        map_shape=[],
        mean=list(spec.model.preprocess.mean),
        std=list(spec.model.preprocess.std),
        class_count=0,
        classes=None,
        roots=[str(root) for root in roots.roots],
        forwards_per_item=sum(METRICS[name].forwards_per_item for name in spec.metrics),
        item_seconds=None,
        shard_size=run.shard_size,
        versions=software_versions(),
    )
    # What came through the database as JSON must equal what was planned.
    return RunPlan.from_json(json.loads(json.dumps(draft.to_json())))


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_target(target: int | str, classes: ClassNames) -> str:
    """Return `predicted`, `label`, or the index of the class as text.

    Raises:
        SpecError: there is no such class.
    """
    if target in {"predicted", "label"}:
        return str(target)
    if isinstance(target, int) or target.isdecimal():
        index = int(target)
        if not 0 <= index < classes.count:
            raise SpecError(
                f"explain.target: there is no class {index}; the model has classes 0 "
                f"to {classes.count - 1}."
            )
        return str(index)
    names = classes.names or []
    places = [index for index, name in enumerate(names) if name == target]
    if len(places) == 1:
        return str(places[0])
    if places:
        listed = ", ".join(str(place) for place in places)
        raise SpecError(
            f"explain.target: several classes are called '{target}' ({listed}); give "
            "the index."
        )
    near = classes.nearest(target)
    hint = f"; did you mean '{near}'" if near else ""
    raise SpecError(f"explain.target: there is no class '{target}'{hint}.")


def shard_size(cap: int, *, batch_size: int, item_seconds: float) -> int:
    """Return how many items make a shard: whole batches, at most about 120 s of work.

    Bounds are multiples of the batch size, so that batches do not depend on shards.
    """
    wanted = min(cap, int(TARGET_SHARD_S / max(item_seconds, 1e-9)))
    return max(batch_size, wanted - wanted % batch_size)


def item_bytes(plan: RunPlan) -> int:
    """Return about how many bytes an item takes in an artifact."""
    metrics = sum(len(card["values"]) for card in plan.cards["metrics"].values())
    return 2 * math.prod(plan.map_shape) + ROW_BYTES + METRIC_BYTES * metrics

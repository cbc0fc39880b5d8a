# SPDX-License-Identifier: Apache-2.0
"""The plan as far as the spec and the network's shape decide it."""

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from explain.architectures import TappedLayer
from explain.kinds import IMAGE
from explain.methods import METHODS, resolve_tap
from explain.methods.card import MethodCard
from explain.methods.gated_parameters import for_gates
from explain.metrics.cards import METRICS, cost_of
from explain.parameters import resolved
from explain.remedies.cards import REMEDIES
from explain.thresholds import POLICIES
from pipeline.errors import SpecError
from pipeline.kinds.cards import KIND_CARDS
from pipeline.labels import ClassNames
from pipeline.paths import AllowedRoots
from pipeline.policies import planned_arguments
from pipeline.run_plan import RunPlan
from pipeline.software import software_versions
from pipeline.spec import AuditSpec

#: Positions in a batch until a search says better.
DEFAULT_BATCH = 16


def tapped_layer(
    spec: AuditSpec, module: nn.Module, shape: tuple[int, ...], device: torch.device
) -> TappedLayer | None:
    """Return the layer to tap, None for methods that tap none."""
    example = torch.zeros((1, *shape), device=device)
    return resolve_tap(spec.explain.method, module, spec.model.layer, example)


def class_names(spec: AuditSpec) -> list[str] | None:
    """Return the names of the classes, None where they are numbered."""
    names = spec.model.classes
    if isinstance(names, str):
        raise SpecError(f"model.classes: '{names}' was not resolved to a list.")
    return names


def draft_plan(
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
    images = spec.data.kind == IMAGE
    asked = dict(spec.asked_metrics)
    cost = cost_of(asked)
    draft = RunPlan(
        layer=layer.name if layer is not None else "",
        layer_reason=layer.reason if layer is not None else "the method taps no layer",
        method=explain.method,
        method_arguments=_method_arguments(spec, method),
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
        metrics=list(asked),
        metric_arguments={
            name: METRICS[name].arguments(given) for name, given in asked.items()
        },
        cards={
            "method": method.document(),
            "policy": policy.document(),
            "metrics": {
                name: METRICS[name].document(given) for name, given in asked.items()
            },
        },
        batch_size=DEFAULT_BATCH if run.batch_size == "auto" else run.batch_size,
        threads=run.threads or _cores(),
        dtype=run.dtype,
        compiled=run.compile,
        device=device.type,
        seed=run.seed,
        input_shape=list(shape),
        map_shape=[],
        mean=list(spec.model.preprocess.mean) if images else [0.0],
        std=list(spec.model.preprocess.std) if images else [1.0],
        class_count=0,
        classes=None,
        roots=[str(root) for root in roots.roots],
        forwards_per_item=cost.forwards + cost.explanations,
        item_seconds=None,
        shard_size=0,
        versions=software_versions(),
        kind=spec.data.kind,
        map_kind="pixels" if images else KIND_CARDS[spec.data.kind].map_kind,
        kind_options={} if images else _options(spec),
    )
    # What came through the database as JSON must equal what was planned.
    return RunPlan.from_json(json.loads(json.dumps(draft.to_json())))


def _method_arguments(spec: AuditSpec, method: MethodCard) -> dict[str, Any]:
    given: Mapping[str, Any] = spec.explain.parameters
    owner = f"method {method.name!r}"
    if spec.data.kind != IMAGE:
        given = for_gates(owner, method.parameters, given)
    return resolved(owner, method.parameters, given)


def _options(spec: AuditSpec) -> dict[str, Any]:
    kind = spec.data.kind
    declared = KIND_CARDS[kind].options
    return resolved(f"kind {kind!r}", declared, spec.data.options)


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

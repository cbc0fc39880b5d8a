# SPDX-License-Identifier: Apache-2.0
"""The plan of an audit of items that are no images: its first items are explained.

Noise will not do here, as what a network of words or graphs takes must be words or a
graph.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import ExplainError, InvalidParameterError
from explain.frozen import frozen
from explain.gates import Content
from explain.methods import METHODS, Attribution, create_method
from explain.metrics.cards import cost_of
from explain.self_test import first_checks
from explain.thresholded import METHOD_STREAM
from explain.thresholds import Need, create_policy
from pipeline.domain import ManifestItem, SourceItem
from pipeline.errors import ModelError, SourceError, SpecError
from pipeline.kinds.card import MODEL_FILES
from pipeline.kinds.kind import DataKind
from pipeline.labels import ClassNames
from pipeline.models.weights import read_file
from pipeline.plan_drafting import class_names, draft_plan, resolve_target
from pipeline.policies import policy_arguments
from pipeline.records import RecordReader
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.spec import AuditSpec
from pipeline.spec_checks import CheckedSpec
from pipeline.unit_preparing import UnitPreparer

#: Items of the source that are looked at for some that can be explained.
_LOOKED_AT = 200
#: Items that are explained before a run.
_TRIED = 4
#: Largest difference between a batch and an item alone, relative to the largest value.
_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """What explaining the first items told.

    Attributes:
        classes: How many scores the network gives.
        field: The largest rows and columns of their units.
        item_seconds: What an item should take.
        passes: In forward passes.
    """

    classes: int
    field: tuple[int, int]
    item_seconds: float
    passes: float


def file_digests(spec: AuditSpec) -> dict[str, str]:
    """Return the SHA-256 of each file that the network needs beside its weights."""
    found = {}
    for name in MODEL_FILES:
        path = getattr(spec.model, name)
        if path is not None:
            found[name] = read_file(Path(path)).sha256
    return found


def planned_units(
    services: Services,
    checked: CheckedSpec,
    model: nn.Module,
    device: torch.device,
    kind: DataKind,
) -> RunPlan:
    """Return the plan, its network tried on the source's first items.

    Raises:
        SpecError: a parameter or policy makes no sense for the items.
        ModelError: the network does not take them, or its explanations are nonsense.
        SourceError: none of the first items can be explained.
    """
    spec = checked.resolved
    module = model.to(device)
    try:
        kind.check(module)
        draft = draft_plan(spec, None, (1, 1, 1), device, checked.roots)
        _require_policy(draft, spec.data.kind)
        contents = _first_contents(services, checked, kind)
        tried = _tried(draft, module, device, kind, contents)
    except InvalidParameterError as exc:
        raise SpecError(str(exc)) from exc
    except ExplainError as exc:
        raise ModelError(str(exc)) from exc
    classes = ClassNames(class_names(spec), count=tried.classes)
    return replace(
        draft,
        target=resolve_target(spec.explain.target, classes),
        class_count=classes.count,
        classes=classes.names,
        input_shape=[1, *tried.field],
        map_shape=list(tried.field),
        passes_per_item=tried.passes,
        item_seconds=tried.item_seconds,
        batch_source="spec" if spec.run.batch_size != "auto" else "default",
        files=file_digests(spec),
    )


def _require_policy(draft: RunPlan, kind: str) -> None:
    policy = create_policy(draft.policy, **policy_arguments(draft))
    if policy.needs & {Need.IMAGES, Need.REGIONS}:
        raise SpecError(
            f"threshold.policy: '{draft.policy}' looks at pictures; for items of kind"
            f" {kind} take another, such as fixed."
        )


def _first_contents(
    services: Services, checked: CheckedSpec, kind: DataKind
) -> list[Content]:
    """Return the first items that can be explained.

    Raises:
        SourceError: there is none among the first.
    """
    preparer = UnitPreparer(
        records=RecordReader(services.reader(checked.roots)),
        kind=kind,
        # Labels are looked at once the number of classes is known.
        classes=ClassNames(None, count=1),
        label_required=False,
        strict_labels=False,
    )
    contents: list[Content] = []
    reasons: list[str] = []
    for item in islice(_listed(checked), _LOOKED_AT):
        prepared = preparer.prepare(item)
        if prepared.content is not None:
            contents.append(prepared.content)
        elif prepared.reason is not None:
            reasons.append(prepared.reason.value)
        if len(contents) == _TRIED:
            break
    if not contents:
        found = ", ".join(sorted(set(reasons)))
        raise SourceError(
            f"None of the first {len(reasons)} items can be explained ({found}); check"
            " data.columns and data.options."
        )
    return contents


def _listed(checked: CheckedSpec) -> Iterator[ManifestItem]:
    for index, item in enumerate(checked.source.items()):
        yield as_unlabelled(index, item)


def as_unlabelled(index: int, item: SourceItem) -> ManifestItem:
    """Return a line of a source as a line of a manifest that nobody stores."""
    return ManifestItem(
        item_index=index,
        item_id="",
        uri=item.uri,
        size_bytes=item.size_bytes,
        version=item.version,
        label=None,
        mask_uri=None,
        subject_token=None,
        groups={},
        salt=None,
        duplicate_of=None,
    )


def _tried(
    plan: RunPlan,
    model: nn.Module,
    device: torch.device,
    kind: DataKind,
    contents: list[Content],
) -> _Tried:
    """Explain the items together and one alone; refuse what is nonsense."""
    card = METHODS[plan.method]
    before = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        with frozen(model):
            both = [contents[0], contents[-1]]
            gated = kind.gated(model, both).to(device)
            method = create_method(plan.method, gated, **plan.method_arguments)
            context = ItemContext(
                draws=ItemDraws(plan.seed, (0, 1), METHOD_STREAM), chunk=plan.chunk
            )
            gates = gated.open_gates(device)
            with torch.no_grad():
                gated(gates)
                started = time.perf_counter()
                gated(gates)
                forward_s = (time.perf_counter() - started) / len(both)
            if not card.batched:
                gated = kind.gated(model, both[:1]).to(device)
                method = create_method(plan.method, gated, **plan.method_arguments)
                gates = gated.open_gates(device)
                context = ItemContext(
                    draws=ItemDraws(plan.seed, (0,), METHOD_STREAM), chunk=plan.chunk
                )
            started = time.perf_counter()
            found = method.explain(gates, None, context)
            explain_s = (time.perf_counter() - started) / len(gates)
            for check in first_checks(found, card, None, plan.layer):
                if not check.passed:
                    raise ModelError(check.said.replace("noise images", "items"))
            if card.batched:
                _require_independence(plan, model, device, kind, contents[0], found)
    finally:
        torch.set_num_threads(before)
    asked = {name: plan.metric_arguments.get(name, {}) for name in plan.metrics}
    cost = cost_of(asked)
    passes = max(1.0, explain_s / max(forward_s, 1e-9))
    return _Tried(
        classes=int(found.logits.shape[1]),
        field=gated.field,
        item_seconds=explain_s * (1 + cost.explanations) + forward_s * cost.forwards,
        passes=passes * (1 + cost.explanations) + cost.forwards,
    )


def _require_independence(
    plan: RunPlan,
    model: nn.Module,
    device: torch.device,
    kind: DataKind,
    content: Content,
    found: Attribution,
) -> None:
    """Nothing happens if an item's map is the same without its neighbour."""
    gated = kind.gated(model, [content]).to(device)
    method = create_method(plan.method, gated, **plan.method_arguments)
    alone = method.explain(
        gated.open_gates(device),
        found.targets[:1].cpu(),
        ItemContext(draws=ItemDraws(plan.seed, (0,), METHOD_STREAM), chunk=plan.chunk),
    )
    height, width = content.units
    together = found.maps[:1, :height, :width]
    scale = together.abs().amax().clamp(min=1e-30)
    moved = float((alone.maps - together).abs().amax() / scale)
    if moved > _TOLERANCE:
        raise ModelError(
            f"An item's map changes by {moved:.1%} of its largest value with the other"
            " items of its batch, so results would depend on the order; the network"
            " lets items influence each other."
        )

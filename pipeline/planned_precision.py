# SPDX-License-Identifier: Apache-2.0
"""The check of another type, or of compiled code, as a part of planning."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn

from explain.errors import ExplainError
from pipeline.domain import ManifestItem, SourceItem
from pipeline.engine import Engine
from pipeline.errors import ModelError, SpecError
from pipeline.labels import ClassNames
from pipeline.memory_budget import MemoryBudget
from pipeline.precision import COMPARED, check_precision, in_words
from pipeline.preparing import ItemPreparer
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.spec import AuditSpec
from pipeline.spec_checks import CheckedSpec

#: Items that are looked at to find some that can be read.
LOOKED_AT = 64
#: Devices that have bfloat16 and a compiler.
DEVICES = frozenset({"cpu", "cuda"})
#: Methods that change what modules do during a pass, which compiled code does not see.
NOT_COMPILED = frozenset({"ablationcam", "guided_backprop", "guided_gradcam"})
#: Metrics that copy the network or listen to its modules.
NOT_COMPILED_METRICS = frozenset({"mprt", "smprt", "emprt", "relative_stability"})


def with_precision(
    services: Services,
    checked: CheckedSpec,
    plan: RunPlan,
    engine: Engine,
    network: nn.Module,
    device: torch.device,
) -> RunPlan:
    """Return the plan with what the check found; the network is as planned then.

    Raises:
        SpecError: the check is outside the tolerance, or cannot be made here.
        ModelError: the network fails in the type.
    """
    _refuse_impossible(checked.written, plan, device)
    key = "run.compile" if plan.compiled else "run.dtype"
    try:
        check = check_precision(
            plan,
            engine,
            network,
            device,
            tolerance=checked.written.run.tolerance,
            pixels=list(_first_pixels(services, checked, plan)),
        )
    except ExplainError as exc:
        raise ModelError(str(exc)) from exc
    except RuntimeError as exc:
        if plan.compiled and type(exc).__module__.startswith("torch._"):
            raise SpecError(
                f"run.compile: this network cannot be compiled on this machine "
                f"({type(exc).__name__}); set it to false."
            ) from exc
        raise
    if not check.passed:
        raise SpecError(
            f"{key}: in {in_words(plan)} the network explains otherwise than in "
            f"float32: {check.in_words()}. Leave it out, or raise run.tolerance."
        )
    return replace(plan, precision=check.to_json())


def _refuse_impossible(spec: AuditSpec, plan: RunPlan, device: torch.device) -> None:
    """Nothing happens if what the spec asks for can be had as planned.

    Raises:
        SpecError: they cannot.
    """
    if device.type not in DEVICES:
        raise SpecError(
            f"run.dtype, run.compile: on {device.type} only float32 that is not "
            "compiled is supported."
        )
    if not plan.compiled:
        return
    if spec.sanity is not None:
        raise SpecError(
            "run.compile: the sanity gate looks into copies of the network with other "
            "weights, which compiled code does not allow; leave out one of the two."
        )
    for name in plan.metrics:
        if name in NOT_COMPILED_METRICS:
            raise SpecError(
                f"run.compile: the metric '{name}' looks into the network or copies "
                "it, which compiled code does not allow; leave out one of the two."
            )
    if plan.method in NOT_COMPILED:
        raise SpecError(
            f"run.compile: the method '{plan.method}' changes what modules do during a "
            "pass, which compiled code does not see; set it to false."
        )
    if (
        device.type == "cpu"
        and shutil.which("g++") is None
        and not shutil.which("clang++")
    ):
        raise SpecError(
            "run.compile: compiling for the CPU needs a C++ compiler, and there is no "
            "g++ on this machine; install one or set it to false."
        )


def _first_pixels(
    services: Services, checked: CheckedSpec, plan: RunPlan
) -> Iterator[Tensor]:
    """Yield the pixels of the first items that can be read."""
    preparer = ItemPreparer(
        reader=services.reader(checked.roots),
        preprocess=checked.resolved.model.preprocess,
        classes=ClassNames(plan.classes, count=plan.class_count),
        label_required=False,
        strict_labels=False,
        budget=MemoryBudget(services.settings.decoding_bytes),
    )
    found = 0
    for item in islice(checked.source.items(), LOOKED_AT):
        pixels = preparer.prepare(_without_a_name(item)).pixels
        if pixels is None:
            continue
        yield torch.from_numpy(pixels)
        found += 1
        if found == COMPARED:
            return


def _without_a_name(item: SourceItem) -> ManifestItem:
    """Return the item as it is read; nothing of it is kept."""
    return ManifestItem(
        item_index=0,
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

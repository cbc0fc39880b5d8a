# SPDX-License-Identifier: Apache-2.0
"""The sanity gate: a sample is explained before a run is made, or the run is not.

It is done by whoever makes the run, which happens once, before any shard can be
claimed. What it found is part of the run's plan, and so of the digest that the ledger
holds of it; no result depends on it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from explain.statistics import wilcoxon_paired
from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.engine import BatchInputs
from pipeline.errors import GateRefusedError
from pipeline.kinds.kind import open_kind
from pipeline.planning import PreparedAudit
from pipeline.preparing import PreparedItem
from pipeline.run_plan import RunPlan
from pipeline.sanity_checks import Column, Measured, SanityMeasurer
from pipeline.sanity_sample import SanitySample, draw_sample
from pipeline.services import Services
from pipeline.spec import SanitySpec
from pipeline.unit_executor import UnitExecutor
from pipeline.unit_sanity import measure_units

#: What each check asks, for people.
QUESTIONS = {
    "parameter_randomisation": "does the map change when the network's weights do",
    "completeness": "does the map sum to the change of the output",
    "batch_invariance": "is an item's map the same bits when it is alone",
    "random_attribution": "is the map more faithful than one drawn at random",
    "edge_detector": "is the map more than the picture's edges",
}
#: A map that ranks positions as edges do, this closely, is one of edges.
MOST_LIKE_EDGES = 0.9


def gated(services: Services, audit: PreparedAudit) -> PreparedAudit:
    """Return the audit with what the gate found in its plan, itself where it has none.

    Raises:
        GateRefusedError: a check is flagged and the spec makes the gate blocking; the
            ledger tells of it.
    """
    wanted = audit.written.sanity
    if wanted is None:
        return audit
    sample = draw_sample(services, audit, wanted.items)
    found = _measured(audit, sample)
    document = _document(sample, found, wanted)
    if wanted.blocking and document["verdict"] == "flag":
        _refuse(services, audit, document)
    return replace(audit, plan=replace(audit.plan, sanity=document))


def _refuse(services: Services, audit: PreparedAudit, document: dict[str, Any]) -> None:
    flagged = [one for one in document["checks"] if one["verdict"] == "flag"]
    record_deed(
        services,
        Action.GATE_REFUSED,
        "audit",
        digest=audit.spec_sha256,
        details={
            "model": audit.model_sha256,
            "checks": ", ".join(one["name"] for one in flagged),
        },
    )
    told = "; ".join(f"{one['name']}: {one['finding']}" for one in flagged)
    raise GateRefusedError(
        f"The sanity gate stopped the audit before any shard was worked on ({told}); "
        "choose another method or layer, or set sanity.blocking to false."
    )


def _measured(audit: PreparedAudit, sample: SanitySample) -> Measured:
    executor, plan, found = audit.executor, audit.plan, Measured()
    if isinstance(executor, UnitExecutor):
        measure_units(plan, executor, open_kind(audit.resolved), sample, found)
        return found
    measurer = SanityMeasurer(plan, executor.model, executor.device)
    size = plan.batch_size
    with executor.session():
        for start in range(0, len(sample.prepared), size):
            batch = _batch(plan, sample.prepared[start : start + size], executor.device)
            measurer.measure(batch, found)
    return found


def _batch(
    plan: RunPlan, items: Sequence[PreparedItem], device: torch.device
) -> BatchInputs:
    inputs = torch.zeros((plan.batch_size, *plan.input_shape))
    labels = torch.zeros(plan.batch_size, dtype=torch.int64)
    valid = torch.zeros(plan.batch_size, dtype=torch.bool)
    for place, item in enumerate(items):
        inputs[place] = torch.from_numpy(item.pixels)
        labels[place] = item.label or 0
        valid[place] = True
    targets = None
    if plan.target == "label":
        targets = labels
    elif plan.target != "predicted":
        targets = torch.full_like(labels, int(plan.target))
    padding = (0,) * (plan.batch_size - len(items))
    return BatchInputs(
        inputs=inputs.to(device),
        targets=targets,
        ground_truth=None,
        has_truth=torch.zeros_like(valid),
        valid=valid,
        indices=(*(item.item.item_index for item in items), *padding),
    )


def _document(
    sample: SanitySample, found: Measured, wanted: SanitySpec
) -> dict[str, Any]:
    checks = [
        _randomisation(found, wanted.max_similarity),
        _completeness(found, wanted.max_residual),
        _invariance(found),
        _against_chance(found),
        _against_edges(found),
    ]
    flagged = any(one["verdict"] == "flag" for one in checks)
    judged = any(one["verdict"] == "pass" for one in checks)
    return {
        "verdict": "flag" if flagged else "pass" if judged else "absent",
        "blocking": wanted.blocking,
        "listed": sample.listed,
        "drawn": list(sample.drawn),
        "read": len(sample.prepared),
        "checks": checks,
    }


def _check(
    name: str, *, flagged: bool | None, finding: str, **figures: Any
) -> dict[str, Any]:
    verdict = "absent" if flagged is None else "flag" if flagged else "pass"
    return {
        "name": name,
        "question": QUESTIONS[name],
        "verdict": verdict,
        "finding": finding,
        "figures": figures,
    }


def _mean(column: Column) -> tuple[float | None, int]:
    held = [value for value in column if value is not None]
    return (sum(held) / len(held) if held else None), len(held)


def _randomisation(found: Measured, bound: float) -> dict[str, Any]:
    (top, _), (whole, n) = _mean(found.top), _mean(found.whole)
    finding = "no map of the random network shows anything"
    if whole is not None:
        finding = f"rank correlation {whole:.3f} with random weights, allowed {bound:g}"
    return _check(
        "parameter_randomisation",
        flagged=None if whole is None else whole > bound,
        finding=finding,
        top_layer=top,
        all_layers=whole,
        n=n,
        bound=bound,
    )


def _completeness(found: Measured, bound: float) -> dict[str, Any]:
    mean, n = _mean(found.residual)
    finding = "the method has no such axiom"
    if mean is not None:
        finding = f"relative residual {mean:.3g}, allowed {bound:g}"
    return _check(
        "completeness",
        flagged=None if mean is None else mean > bound,
        finding=finding,
        relative_residual=mean,
        n=n,
        bound=bound,
    )


def _invariance(found: Measured) -> dict[str, Any]:
    same, n = sum(found.alone), len(found.alone)
    return _check(
        "batch_invariance",
        flagged=same < n if n else None,
        finding=f"{same} of {n} maps have the same bits",
        same=same,
        n=n,
    )


def _against_chance(found: Measured) -> dict[str, Any]:
    pairs = [
        (own, other)
        for own, other in zip(found.own_auc, found.random_auc, strict=True)
        if own is not None and other is not None
    ]
    if not pairs:
        return _check("random_attribution", flagged=None, finding="nothing to compare")
    own, chance = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
    test = wilcoxon_paired([other - mine for mine, other in pairs])
    return _check(
        "random_attribution",
        flagged=own >= chance,
        finding=f"deletion AUC {own:.4f}, drawn at random {chance:.4f}",
        own=own,
        random=chance,
        rank_biserial=test.rank_biserial,
        p_value=test.p_value,
        n=len(pairs),
    )


def _against_edges(found: Measured) -> dict[str, Any]:
    likeness, n = _mean(found.edges)
    own, _ = _mean(found.own_auc)
    edges, _ = _mean(found.edges_auc)
    finding = "nothing to compare"
    if likeness is not None:
        finding = (
            f"rank correlation {likeness:.3f} with edges, allowed {MOST_LIKE_EDGES:g}"
        )
    return _check(
        "edge_detector",
        flagged=None if likeness is None else likeness > MOST_LIKE_EDGES,
        finding=finding,
        rank_correlation=likeness,
        own=own,
        edges=edges,
        n=n,
        bound=MOST_LIKE_EDGES,
    )

# SPDX-License-Identifier: Apache-2.0
"""Asking the network once before a run: its classes, its maps, its speed.

A method that makes many passes an item is not tried, only priced: trying it on noise
could take longer than a shard.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain.architectures import TappedLayer
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import UnsupportedModelError
from explain.frozen import frozen
from explain.maps import pool_to_grid
from explain.methods import METHODS, Attribution, Method
from explain.metrics.cards import cost_of
from explain.self_test import first_checks, second_checks
from explain.thresholds import create_policy
from pipeline.engine import planned_method
from pipeline.errors import ModelError
from pipeline.policies import policy_arguments
from pipeline.run_plan import RunPlan

#: A method of at most this many passes is tried on noise.
MOST_TRIED_PASSES = 60.0
#: One of at most this many is tried twice more, in another batch and for other classes.
MOST_TESTED_PASSES = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What asking once told.

    Attributes:
        class_count: Outputs of the network.
        map_shape: Height and width of a stored map.
        passes_per_item: What an item costs, in forward passes.
        item_seconds: What it should take, from one timed batch.
    """

    class_count: int
    map_shape: tuple[int, int]
    passes_per_item: float
    item_seconds: float


def probe(
    plan: RunPlan, module: nn.Module, layer: TappedLayer | None, device: torch.device
) -> Probed:
    """Return what the network and the method say of seeded noise.

    Raises:
        ModelError: the tapped layer has no gradient for the predicted class.
        ExplainError: the method cannot explain the model.
    """
    method = planned_method(plan, module, layer)
    noise = torch.rand(
        (2, *plan.input_shape), generator=torch.Generator().manual_seed(0)
    ).to(device)
    before = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        with frozen(module):
            tried_s = 0.0
            if method.passes <= MOST_TRIED_PASSES:
                started = time.perf_counter()
                context = ItemContext(
                    draws=ItemDraws(plan.seed, (0, 1)), images=noise, chunk=plan.chunk
                )
                found = method.explain(noise, None, context)
                tried_s = (time.perf_counter() - started) / len(noise)
                classes, shape = _tested(plan, method, noise, context, found)
            else:
                classes, shape = _priced(plan, module, layer, noise)
            policy = create_policy(plan.policy, **policy_arguments(plan))
            cost = _Cost.of(plan, method.passes, policy.passes)
            seconds = _item_seconds(plan, cost, module, device, tried_s)
    finally:
        torch.set_num_threads(before)
    return Probed(
        class_count=classes,
        map_shape=shape,
        passes_per_item=cost.passes,
        item_seconds=seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """What an item costs, in forward passes.

    Attributes:
        explanation: Of one explanation.
        explanations: How many are made: the item's own, and those of metrics.
        others: Of the policy and of metrics, beside explanations.
    """

    explanation: float
    explanations: int
    others: float

    @classmethod
    def of(cls, plan: RunPlan, method: float, policy: float) -> "_Cost":
        """Return the cost of an item of the plan."""
        asked = {name: plan.metric_arguments.get(name, {}) for name in plan.metrics}
        metrics = cost_of(asked)
        return cls(
            explanation=method,
            explanations=1 + metrics.explanations,
            others=policy + metrics.forwards,
        )

    @property
    def passes(self) -> float:
        """All of it."""
        return self.explanation * self.explanations + self.others


def _tested(
    plan: RunPlan,
    method: Method,
    noise: Tensor,
    context: ItemContext,
    found: Attribution,
) -> tuple[int, tuple[int, int]]:
    """Return classes and map shape of explained noise; refuse what is nonsense.

    Methods of many passes are asked once only.
    """
    card = METHODS[plan.method]
    checks = first_checks(found, card, None, plan.layer)
    if all(check.passed for check in checks) and method.passes <= MOST_TESTED_PASSES:
        checks += second_checks(method, found, card, noise, context)
    for check in checks:
        if not check.passed:
            raise ModelError(check.said)
    maps = pool_to_grid(found.maps, plan.grid) if card.pixel_resolution else found.maps
    return found.logits.shape[1], (maps.shape[1], maps.shape[2])


def _priced(
    plan: RunPlan, module: nn.Module, layer: TappedLayer | None, noise: Tensor
) -> tuple[int, tuple[int, int]]:
    """Return classes and map shape without explaining anything."""
    with torch.no_grad():
        logits = module(noise)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UnsupportedModelError(
            "Expected class logits (N, K) from the model; wrap it in a module that"
            " returns one score a class"
        )
    if METHODS[plan.method].pixel_resolution or layer is None or layer.shape is None:
        height, width = plan.input_shape[1:]
        return logits.shape[1], (min(plan.grid, height), min(plan.grid, width))
    return logits.shape[1], (layer.shape[2], layer.shape[3])


def _item_seconds(
    plan: RunPlan,
    cost: _Cost,
    module: nn.Module,
    device: torch.device,
    tried_s: float,
) -> float:
    """Return what an item should take: a timed forward pass, times what is made.

    A trial that took far longer than its price says more: the price of a method that
    repeats the head alone (Ablation-CAM) is not known beforehand.
    """
    inputs = torch.zeros((plan.batch_size, *plan.input_shape), device=device)
    with torch.no_grad():
        module(inputs[:1])
        started = time.perf_counter()
        module(inputs).cpu()
        elapsed = time.perf_counter() - started
    forward_s = elapsed / plan.batch_size
    explain_s = forward_s * cost.explanation
    if tried_s > 3 * explain_s:
        explain_s = tried_s
    return explain_s * cost.explanations + forward_s * cost.others

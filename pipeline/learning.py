# SPDX-License-Identifier: Apache-2.0
"""Learning from finished runs which threshold policy suits which kind of item.

Each run is one arm: its policy. Its items' recorded metric is the quality, what the
run's explanations cost in passes and bytes is the price. The table that comes out is a
document with a digest; a later audit names it under the policy `learned`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from explain.metrics.cards import METRICS, Direction
from explain.optimise import Arm, PolicyTable, Reward, fit
from explain.optimise.features import FEATURES
from explain.optimise.item_features import item_features
from explain.thresholds import ThresholdContext, create_policy
from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.errors import SpecError
from pipeline.explained_items import ExplainedItem, explained_items
from pipeline.policies import document_parameters
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from storage.runs import list_shards
from storage.tables import RunTable

#: Items whose features are measured at once.
BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The table and how many items of each arm it was learned from."""

    table: PolicyTable
    arms: tuple[tuple[str, int, float], ...]


def learn(
    services: Services,
    runs: Sequence[RunTable],
    *,
    quality: str,
    reward: Reward | None = None,
    on_items: Callable[[int], None] = lambda _count: None,
) -> Learned:
    """Return what the runs teach; the reading of each is recorded first.

    Args:
        services: Database, store and settings.
        runs: At least two, of different policies.
        quality: The measured value that counts as quality; one between 0 and 1.
        reward: What quality, time and bytes weigh.
        on_items: Told how many more items were looked at.

    Raises:
        SpecError: the runs or the value are of no use.
    """
    reward = reward or Reward()
    lower = _is_lower_better(quality)
    plans = [RunPlan.from_json(run.plan) for run in runs]
    _require_alike(runs, plans)
    arms = [_arm(run, plan) for run, plan in zip(runs, plans, strict=True)]
    if len(set(arms)) < 2:
        raise SpecError(
            "Expected runs of at least two different threshold policies, got "
            f"{len(runs)} of one; run the audit again with another."
        )
    distinct = list(dict.fromkeys(arms))
    features: list[npt.NDArray[np.float64]] = []
    chosen: list[int] = []
    rewards: list[float] = []
    for run, plan, arm in zip(runs, plans, arms, strict=True):
        record_deed(
            services,
            Action.RESULTS_READ,
            f"run/{run.id}",
            details={"purpose": "learning"},
        )
        price = _price(services, run, plan)
        for rows, values in _measured(services, run, plan, quality, on_items):
            features.append(rows)
            good = 1.0 - values if lower else values
            rewards += reward.of(good, *price).tolist()
            chosen += [distinct.index(arm)] * len(values)
    if not features or not np.isfinite(rewards).any():
        raise SpecError(
            f"No item of these runs has the value '{quality}'; ask for its metric in "
            "the spec and run the audits again."
        )
    for run, arm in zip(runs, arms, strict=True):
        mine = np.array(chosen) == distinct.index(arm)
        if not np.isfinite(np.array(rewards)[mine]).any():
            raise SpecError(
                f"No item of the run {run.id} ({arm.label}) has the value '{quality}', "
                "so nothing can be learned of its policy; leave the run out."
            )
    table = fit(np.concatenate(features), chosen, rewards, arms=distinct, reward=reward)
    return Learned(table=table, arms=_summary(distinct, chosen, rewards))


def _is_lower_better(quality: str) -> bool:
    """Return whether less of the value is better, refusing what is no quality."""
    known = {
        value: card.direction_of(value)
        for card in METRICS.values()
        for value in card.values
        if card.range_of(value) == (0.0, 1.0)
        and card.direction_of(value) is not Direction.NEITHER
    }
    if quality in known:
        return known[quality] is Direction.LOWER
    raise SpecError(
        f"--quality: '{quality}' is no measured value between 0 and 1; there are "
        f"{', '.join(sorted(known))}."
    )


def _require_alike(runs: Sequence[RunTable], plans: Sequence[RunPlan]) -> None:
    """Nothing happens if the runs differ in their policy alone.

    A reward that also depends on another network or method would be put down to the
    policy. Items may differ: features say what kind of item each is.
    """
    kinds = {
        (run.model_digest, plan.method_name, plan.layer, plan.target)
        for run, plan in zip(runs, plans, strict=True)
    }
    if len(kinds) > 1:
        raise SpecError(
            "Expected runs of one network, method, layer and target that differ in "
            "their threshold policy alone, got runs that differ in more; leave the "
            "others out."
        )


def _arm(run: RunTable, plan: RunPlan) -> Arm:
    if document_parameters(plan.policy):
        raise SpecError(
            f"The run {run.id} has the policy '{plan.policy}', which was fitted "
            "itself; learn from runs of plain policies."
        )
    return Arm.of(plan.policy, **plan.policy_arguments)


def _price(services: Services, run: RunTable, plan: RunPlan) -> tuple[float, float]:
    """Return what an explanation of the run cost: forward passes and bytes."""
    policy = create_policy(plan.policy, **plan.policy_arguments)
    shards = list_shards(services.engine, run.id)
    stored = sum(shard.size_bytes or 0 for shard in shards)
    return 1.0 + policy.passes, max(1.0, stored / max(1, run.items_total))


def _measured(
    services: Services,
    run: RunTable,
    plan: RunPlan,
    quality: str,
    on_items: Callable[[int], None],
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Yield features and quality, batch by batch; NaN where an item has none."""
    waiting: list[ExplainedItem] = []
    items = explained_items(services, run, wanted=lambda _row: True, on_items=on_items)
    for item in items:
        if item.prepared.pixels is None:
            continue
        waiting.append(item)
        if len(waiting) == BATCH:
            yield _batch(waiting, plan, quality)
            waiting = []
    if waiting:
        yield _batch(waiting, plan, quality)


def _batch(
    items: Sequence[ExplainedItem], plan: RunPlan, quality: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mean = torch.tensor(plan.mean)[:, None, None]
    std = torch.tensor(plan.std)[:, None, None]
    inputs = torch.from_numpy(
        np.stack([item.prepared.pixels for item in items])  # type: ignore[misc]
    )
    context = ThresholdContext(
        images=(inputs * std + mean).clamp(0, 1),
        probabilities=torch.tensor(
            [item.result.score for item in items], dtype=torch.float64
        ),
    )
    maps = torch.from_numpy(np.stack([item.attribution for item in items]))
    found = item_features(tuple(FEATURES), maps, context).numpy()
    values = [item.result.metrics.get(quality, np.nan) for item in items]
    return found, np.array(values, dtype=np.float64)


def _summary(
    arms: Sequence[Arm], chosen: Sequence[int], rewards: Sequence[float]
) -> tuple[tuple[str, int, float], ...]:
    """Return each arm's name, its items and its mean reward."""
    places, values = np.array(chosen), np.array(rewards)
    rows = []
    for place, arm in enumerate(arms):
        mine = values[(places == place) & np.isfinite(values)]
        rows.append((arm.label, len(mine), float(mine.mean()) if len(mine) else 0.0))
    return tuple(rows)

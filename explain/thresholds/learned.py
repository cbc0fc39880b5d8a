# SPDX-License-Identifier: Apache-2.0
"""Apply to each item the policy that suits its kind best, by what earlier runs taught.

The table is fixed: it was fitted before the run and is named by its digest, and no
reward of the run changes it. Each item's policy follows from its own map and context
alone, so that neither neighbours nor the order of work have a say.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.draws import ItemDraws
from explain.errors import InvalidInputError, InvalidParameterError
from explain.optimise.features import FEATURES
from explain.optimise.item_features import item_features
from explain.optimise.policy_table import PolicyTable
from explain.optimise.scores import arm_scores, best_arms
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdPolicy,
    ThresholdResult,
    require_context,
)
from explain.thresholds.registry import create_policy

#: The draw of a policy's stream that decides which arm an item explores.
_DRAW = 2**31


@dataclass(frozen=True, slots=True)
class Learned:
    """Applies the arm of the highest believed reward, the first of equals.

    With ``explore``, the highest of one number drawn for each arm from what is
    believed of its reward (Thompson sampling), so that the run's rewards teach the
    next table; the numbers belong to the item.
    """

    table: PolicyTable
    explore: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.table, PolicyTable):
            raise InvalidParameterError(
                f"Policy 'learned' expects a PolicyTable, got"
                f" {type(self.table).__name__}; read one with"
                f" PolicyTable.from_document."
            )

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "learned"

    @property
    def arms(self) -> tuple[ThresholdPolicy, ...]:
        """The policies to choose from."""
        return tuple(
            create_policy(arm.policy, **dict(arm.parameters)) for arm in self.table.arms
        )

    @property
    def needs(self) -> frozenset[Need]:
        """What features are measured on, what arms need, and draws to explore."""
        measured = {FEATURES[scale.name].need for scale in self.table.features} - {""}
        needs = {Need(need) for need in measured}
        if self.explore:
            needs.add(Need.DRAWS)
        return frozenset(needs).union(*(arm.needs for arm in self.arms))

    @property
    def cut_based(self) -> bool:
        """Whether every arm's masks are cuts."""
        return all(arm.cut_based for arm in self.arms)

    @property
    def passes(self) -> float:
        """Those of all arms: each is applied to the batch as a whole."""
        return sum(arm.passes for arm in self.arms)

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return each item's mask by its own arm; an arm's levels are left out.

        Shape: maps (N, H, W) or (N, L) float32.

        Raises:
            MissingContextError: something that a feature or an arm needs is unknown.
        """
        given = require_context(self, context)
        chosen = self.choose(maps, given)
        result: ThresholdResult | None = None
        for place, arm in enumerate(self.arms):
            mine = chosen == place
            # Looking stops a GPU's queue: worth it only to save forward passes.
            may_look = mine.device.type == "cpu" or arm.passes > 0
            if may_look and not bool(mine.any()):
                continue
            # The whole batch goes, since a pass of another shape has other last bits.
            result = _joined(mine, arm.apply(maps, given), result)
        if result is None:
            # An empty batch has no arm, but a result of the right shapes.
            result = _joined(chosen == 0, self.arms[0].apply(maps, given), None)
        return result

    def choose(self, maps: Tensor, context: ThresholdContext) -> Tensor:
        """Return the place of each item's arm in the table.

        Shape: maps (N, H, W) or (N, L) float32 -> (N,) int64, on the maps' device.
        """
        names = [scale.name for scale in self.table.features]
        features = item_features(names, maps, context)
        noise = None
        if self.explore:
            draws = require_context(self, context).draws
            noise = exploring_noise(draws, len(maps), len(self.table.arms))
            noise = noise.to(maps.device)
        return best_arms(arm_scores(self.table, features, noise))


def exploring_noise(draws: ItemDraws | None, items: int, arms: int) -> Tensor:
    """Return each item's own numbers, one an arm, (N, K) float32 standard normal.

    Raises:
        InvalidInputError: the draws are not those of so many items.
    """
    if draws is None or len(draws.indices) != items:
        raise InvalidInputError(
            f"Expected the draws of {items} items, got those of"
            f" {0 if draws is None else len(draws.indices)}."
        )
    return draws.normal(_DRAW, (arms,))


def _joined(
    mine: Tensor, result: ThresholdResult, others: ThresholdResult | None
) -> ThresholdResult:
    """Return one arm's results where it is an item's arm, and the others' elsewhere."""
    if others is None:
        others = result

    def either(name: str) -> Tensor:
        first, second = getattr(result, name), getattr(others, name)
        rows = mine.view(-1, *[1] * (first.ndim - 1))
        return torch.where(rows, first, second)

    return ThresholdResult(
        mask=either("mask"),
        requested=either("requested"),
        achieved=either("achieved"),
        cut=either("cut"),
        kept=either("kept"),
        energy_retained=either("energy_retained"),
        codes=either("codes"),
        halved=result.halved or others.halved,
    )

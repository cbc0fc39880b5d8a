# SPDX-License-Identifier: Apache-2.0
"""How good a table believes each arm to be for each item, and the arm that is best.

For an item with standardised features x (a one first) and an arm's weights of mean m
and covariance C, the reward's line is believed to be N(x m, x C x'). Thompson
sampling draws one number of it for each arm and takes the highest; without noise the
mean decides.

Source: Thompson 1933, "On the likelihood that one unknown probability exceeds another";
Agrawal and Goyal 2013, "Thompson sampling for contextual bandits with linear payoffs".
"""

import torch
from torch import Tensor

from explain.errors import InvalidInputError
from explain.optimise.policy_table import PolicyTable


def arm_scores(
    table: PolicyTable, features: Tensor, noise: Tensor | None = None
) -> Tensor:
    """Return the believed reward of each arm, or one drawn from the belief.

    Args:
        table: What was learned.
        features: (N, F) float64, as ``item_features`` gives them.
        noise: (N, K) standard normal numbers; without them, the mean.

    Shape: (N, K) float64, in units of the reward.

    Raises:
        InvalidInputError: the features or the noise have another shape.
    """
    items, arms = len(features), len(table.arms)
    if features.ndim != 2 or features.shape[1] != len(table.features):
        raise InvalidInputError(
            f"Expected {len(table.features)} features an item, got"
            f" {tuple(features.shape)}."
        )
    if noise is not None and noise.shape != (items, arms):
        raise InvalidInputError(
            f"Expected noise for {items} items and {arms} arms, got"
            f" {tuple(noise.shape)}."
        )
    design = _design(table, features)
    device = features.device
    mean = torch.tensor([one.mean for one in table.posteriors], dtype=torch.float64)
    # Sums of products, not a matrix product: an item's bits are then its own.
    scores = (design[:, None] * mean.to(device)).sum(dim=2)
    if noise is not None:
        covariance = torch.tensor(
            [one.covariance for one in table.posteriors], dtype=torch.float64
        ).to(device)
        inner = (design[:, None, None] * covariance).sum(dim=3)
        variance = (design[:, None] * inner).sum(dim=2).clamp(min=0)
        scores += variance.sqrt() * noise.to(device).double()
    return table.reward_centre + table.reward_scale * scores


def best_arms(scores: Tensor) -> Tensor:
    """Return the place of each item's highest score, the first of equals.

    Shape: (N, K) float64 -> (N,) int64.
    """
    places = torch.arange(scores.shape[1], device=scores.device)
    scores = scores.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    highest = scores == scores.amax(dim=1, keepdim=True)
    return torch.where(highest, places, scores.shape[1]).amin(dim=1)


def _design(table: PolicyTable, features: Tensor) -> Tensor:
    """Return a one and the standardised features, (N, F + 1) float64."""
    columns = [torch.ones_like(features[:, :1])]
    for place, scale in enumerate(table.features):
        column = features[:, place : place + 1].clamp(scale.low, scale.high)
        columns.append((column - scale.centre) / scale.scale)
    return torch.cat(columns, dim=1)

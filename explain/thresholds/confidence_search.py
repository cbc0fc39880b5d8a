# SPDX-License-Identifier: Apache-2.0
"""The smallest mask that keeps a share of the target's probability.

The probability is not monotone in the kept fraction on most real images, so that
plain bisection ends anywhere. Here ten fractions are scored in one call; the first
that passes, from the small end, bounds an interval, and three bisections refine it.
Thirteen forward passes an item, whatever the item.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.numpy_maps import kept_count
from explain.thresholds.masked_scores import MaskedScores
from explain.thresholds.selection import Ranked, selected

#: The fractions that are scored first.
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
BISECTIONS = 3
PASSES = len(FRACTIONS) + BISECTIONS


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the search found.

    Shape: counts (N,) int64, positions to keep; reached (N,) bool: the mask keeps
    the share asked; elsewhere the count is that of the best fraction scored.
    """

    counts: Tensor
    reached: Tensor


def search(order: Ranked, scores: MaskedScores, goal: Tensor) -> Found:
    """Return the smallest counts found whose masked inputs score at least the goal.

    Masks hold positive positions only, so that fractions beyond a map's support are
    the support.

    Shape: goal (N,) float64.
    """
    counts = torch.tensor(
        [kept_count(fraction, order.positions) for fraction in FRACTIONS],
        device=order.flat.device,
    )
    candidates = torch.minimum(counts[None], order.positives[:, None])
    # What is no number is worse than any probability.
    reached_score = scores(candidate_masks(order, candidates)).nan_to_num(-1.0)
    passing = reached_score >= goal[:, None]
    reached = passing.any(dim=1)
    # The first of the greatest: the smallest that passes, or the best of all.
    first = passing.to(torch.int8).argmax(dim=1)
    chosen = torch.where(reached, first, reached_score.argmax(dim=1))[:, None]
    above = candidates.gather(1, chosen).squeeze(1)
    below = candidates.gather(1, (chosen - 1).clamp(min=0)).squeeze(1)
    below = torch.where(chosen.squeeze(1) > 0, below, 0)
    below = torch.where(reached, below, above)
    for _ in range(BISECTIONS):
        middle = (below + above + 1) // 2
        score = scores(candidate_masks(order, middle[:, None])).squeeze(1)
        passes = (score >= goal) & reached
        above = torch.where(passes, middle, above)
        below = torch.where(passes, below, middle)
    return Found(counts=above, reached=reached)


def candidate_masks(order: Ranked, counts: Tensor) -> Tensor:
    """Return the masks of several counts an item.

    Shape: counts (N, F) int64 -> (N, F, *positions) bool.
    """
    cuts = order.cut_at(counts)
    masks = [
        selected(order.flat, cuts[:, place], counts[:, place])
        for place in range(counts.shape[1])
    ]
    return torch.stack(masks, dim=1).view(*counts.shape, *order.shape[1:])

# SPDX-License-Identifier: Apache-2.0
"""How compact a mask is: near 1 in one piece, near 0 in shreds."""

import torch
from torch import Tensor


def compactness(masks: Tensor) -> Tensor:
    """Return the area over that of a square with the same outline; 0 for no area.

    16 A / P^2, P the number of sides that face what is not kept, the border
    included. A sequence's mask has 1 over the number of its runs.

    Shape: masks (N, H, W) or (N, L) bool -> (N,) float64 in [0, 1].
    """
    area = masks.flatten(1).sum(dim=1).double()
    outline = _sides(masks, dim=masks.ndim - 1)
    if masks.ndim == 2:
        return torch.where(area > 0, 2 / outline, 0.0)
    outline = outline + _sides(masks, dim=1)
    return torch.where(area > 0, 16 * area / outline.square(), 0.0)


def _sides(masks: Tensor, dim: int) -> Tensor:
    """Return how often each mask begins or ends along one axis, (N,) float64."""
    inner = masks.diff(dim=dim).flatten(1).sum(dim=1)
    first = masks.select(dim, 0).flatten(1 if masks.ndim == 3 else 0)
    last = masks.select(dim, -1).flatten(1 if masks.ndim == 3 else 0)
    if masks.ndim == 3:
        first, last = first.sum(dim=1), last.sum(dim=1)
    return (inner + first.long() + last.long()).double()

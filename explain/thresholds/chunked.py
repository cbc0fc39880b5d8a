# SPDX-License-Identifier: Apache-2.0
"""Thresholds by chunk and hierarchically, for sequences too long for one fraction.

One fraction of a whole day of readings may fall on a single minute. Here a sequence is
cut into chunks, the chunks with the most positive attribution are chosen, and of each
chosen chunk the same fraction is kept: all of them chosen is thresholding by chunk,
some of them is hierarchical.

Source: Li 2025, "A Lightweight Explainability Framework for Neural Networks",
limitations (long sequences by chunk and hierarchically).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explain.numpy_maps import kept_count
from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.shaped import grid, shaped_result


@dataclass(frozen=True, slots=True)
class Chunked:
    """Keeps a fraction of each of the best chunks along the last axis.

    A chunk is all rows of ``size`` columns (the last may have fewer); 0 stands for the
    square root of the columns.
    """

    keep: float = 0.1
    size: int = 0
    chunks: float = 1.0

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "chunked"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = False
    passes: ClassVar[float] = 0.0

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return masks of ceil(keep * n) positions of each chosen chunk of n.

        Zeros are never kept, equal values by lowest index; equal chunks too.

        Shape: maps (N, H, W) or (N, L) float32.
        """
        pictures = grid(self.name, maps)
        columns = pictures.maps.shape[2]
        size = min(columns, self.size or max(1, round(math.sqrt(columns))))
        starts = range(0, columns, size)
        pieces = [pictures.maps[:, :, start : start + size] for start in starts]
        means = torch.stack(
            [piece.clamp(min=0).double().mean(dim=(1, 2)) for piece in pieces], dim=1
        )
        order = means.sort(dim=1, descending=True, stable=True).indices
        chosen = order.argsort(dim=1) < kept_count(self.chunks, len(pieces))
        masks = [
            _best(piece, self.keep) & chosen[:, place, None, None]
            for place, piece in enumerate(pieces)
        ]
        return shaped_result(pictures, torch.cat(masks, dim=2))


def _best(piece: Tensor, keep: float) -> Tensor:
    """Return where a chunk's highest positive values stand, (N, H, w) bool."""
    flat = piece.flatten(1)
    order = flat.sort(dim=1, descending=True, stable=True).indices
    rank = order.argsort(dim=1)
    best = (rank < kept_count(keep, flat.shape[1])) & (flat > 0)
    return best.view(piece.shape)

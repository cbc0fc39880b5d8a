# SPDX-License-Identifier: Apache-2.0
"""Preset for pages: upright blocks, as text, tables and figures are.

Gaps within a row of print are bridged, and each connected part becomes the block
around it. The values are a convention, not a measured truth.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explain.thresholds.components import blocks
from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.shaped import grid, shaped_result


@dataclass(frozen=True, slots=True)
class Documents:
    """Keeps the upright blocks around what reaches a share of the maximum.

    Parts of a row no further apart than gap (a fraction of the width) are joined
    first. A block is kept whole, whatever the attribution inside.
    """

    relative: float = 0.4
    gap: float = 0.04

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "documents"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = False
    passes: ClassVar[float] = 0.0

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the masks of the blocks.

        Shape: maps (N, H, W) or (N, L) float32.
        """
        pictures = grid(self.name, maps)
        joined = bridged(
            pictures.above(self.relative), round(self.gap * pictures.maps.shape[2])
        )
        filled = torch.from_numpy(blocks(joined.cpu().numpy())).to(maps.device)
        return shaped_result(pictures, filled)


def bridged(masks: Tensor, gap: int) -> Tensor:
    """Return the masks with gaps of up to that many positions in a row filled.

    Shape: masks (N, H, W) bool -> the same.
    """
    width = masks.shape[2]
    columns = torch.arange(width, device=masks.device).expand(masks.shape)
    far = width + gap + 1
    before = columns.where(masks, -far).cummax(dim=2).values
    after = columns.where(masks, 2 * far).flip(2).cummin(dim=2).values.flip(2)
    return after - before <= gap + 1

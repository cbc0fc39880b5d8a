# SPDX-License-Identifier: Apache-2.0
"""Preset for medical pictures: no finding above a stated size is dropped.

Everything from a low share of the maximum is kept but specks, whole: a ring is
closed to a disc. The values are a convention, not a clinical truth.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from explain.numpy_maps import kept_count
from explain.thresholds.components import areas, holes, labelled
from explain.thresholds.policy import Need, ThresholdContext, ThresholdResult
from explain.thresholds.shaped import Grid, grid, shaped_result


@dataclass(frozen=True, slots=True)
class Medical:
    """Keeps every connected part of at least the least area, with its holes closed.

    Parts are of positions of at least relative times the maximum. A closed hole is
    kept whatever its attribution. Where every part is smaller, the one with the
    maximum is kept.
    """

    relative: float = 0.3
    area: float = 0.0005

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "medical"

    needs: ClassVar[frozenset[Need]] = frozenset()
    cut_based: ClassVar[bool] = False
    passes: ClassVar[float] = 0.0

    def apply(
        self,
        maps: Tensor,
        context: ThresholdContext | None = None,  # noqa: ARG002 - the map is enough
    ) -> ThresholdResult:
        """Return the masks of the parts that are large enough, holes closed.

        Shape: maps (N, H, W) or (N, L) float32.
        """
        pictures = grid(self.name, maps)
        mask = large_parts(pictures, self.relative, self.area)
        closed = torch.from_numpy(holes(mask.cpu().numpy())).to(mask.device)
        return shaped_result(pictures, mask | closed)


def large_parts(pictures: Grid, relative: float, area: float) -> Tensor:
    """Return the connected parts above a share of the maximum and of a least area.

    Where no part of a map is that large, it is the one with the maximum.

    Shape: area is a fraction of the positions -> (N, H, W) bool.
    """
    high = pictures.above(relative).cpu().numpy()
    labels, count = labelled(high)
    positions = high.shape[1] * high.shape[2]
    large = areas(labels, count) >= (kept_count(area, positions) if area > 0 else 1)
    large[0] = False
    mask = large[labels]
    flat = labels.reshape(len(labels), positions)
    top = pictures.maps.flatten(1).argmax(dim=1).cpu().numpy()
    for item in np.flatnonzero(~mask.any(axis=(1, 2))):
        part = flat[item, top[item]]
        mask[item] = (labels[item] == part) & (part > 0)
    return torch.from_numpy(mask).to(pictures.maps.device)

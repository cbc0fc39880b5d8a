# SPDX-License-Identifier: Apache-2.0
"""A Gaussian over the map whose width grows with the map's raggedness.

    r     = total variation / (4 * mass)
    sigma = sigma_min + (sigma_max - sigma_min) * r

with the total variation the sum of absolute differences between neighbours and the
mass the sum of absolute values. A cell takes part in four differences at most, so r
lies in [0, 1]: 0 for a flat map, 1 for cells that stand alone.

Source: the rule is our own; the founding paper names adaptive smoothing as the
remedy for dense texture and gives no formula.
"""

import math
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from explain.context import ItemContext
from explain.errors import InvalidParameterError
from explain.methods.method import Attribution, Method

#: Beyond so many sigmas a Gaussian is cut off.
_REACH = 4.0


class Smoothed:
    """A method whose maps are smoothed, each by its own width."""

    def __init__(
        self, method: Method, sigma_min: float = 0.0, sigma_max: float = 1.5
    ) -> None:
        if not 0.0 <= sigma_min <= sigma_max < math.inf:
            raise InvalidParameterError(
                f"Expected 0 <= sigma_min <= sigma_max, got {sigma_min} and"
                f" {sigma_max}; both are in cells of the map."
            )
        self._method = method
        self._sigmas = (sigma_min, sigma_max)

    @property
    def name(self) -> str:
        """The method's name with the remedy's behind it."""
        return f"{self._method.name}+smoothing"

    @property
    def passes(self) -> float:
        """The method's own cost."""
        return self._method.passes

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the method's result with its maps smoothed.

        Sums of maps stay what they were, and so does completeness.
        """
        plain = self._method.explain(inputs, targets, context)
        return replace(plain, maps=smoothed(plain.maps, *self._sigmas))


def smoothed(maps: Tensor, sigma_min: float, sigma_max: float) -> Tensor:
    """Return the maps, each under a Gaussian of its own width.

    Borders mirror the map, edge cells repeated, so that what would fall over the
    border falls back: the sum of a map, signed or not, is kept up to rounding. Width
    0 keeps a map's bits. A map that is not finite becomes NaN throughout.

    Shape: (N, h, w) or (N, T, h, w) float32 -> the same.
    """
    if sigma_max == 0:
        return maps
    flat = maps.flatten(0, -3).double()
    sigma = sigma_min + (sigma_max - sigma_min) * raggedness(flat)
    reach = math.ceil(_REACH * sigma_max)
    rows = _mixing(sigma, flat.shape[1], reach)
    columns = _mixing(sigma, flat.shape[2], reach)
    mixed = torch.bmm(torch.bmm(rows, flat), columns.transpose(1, 2))
    return mixed.to(maps.dtype).view(maps.shape)


def raggedness(maps: Tensor) -> Tensor:
    """Return total variation over four times the mass; 0 for a map without mass.

    Shape: (N, h, w) -> (N,) float64 in [0, 1].
    """
    maps = maps.double()
    variation = sum(maps.diff(dim=axis).abs().sum(dim=(1, 2)) for axis in (1, 2))
    mass = maps.abs().sum(dim=(1, 2))
    return variation / torch.where(mass == 0, 1.0, 4 * mass)


def _mixing(sigma: Tensor, cells: int, reach: int) -> Tensor:
    """Return the Gaussian along one axis as a matrix; rows and columns sum to 1.

    Shape: sigma (N,) -> (N, cells, cells) float64.
    """
    offsets = torch.arange(-reach, reach + 1, device=sigma.device).double()
    width = torch.where(sigma == 0, 1.0, sigma)[:, None]
    weights = torch.exp(-0.5 * (offsets / width) ** 2)
    # The narrowest Gaussian is the cell itself.
    weights = torch.where(sigma[:, None] == 0, (offsets == 0).double(), weights)
    weights = weights / weights.sum(dim=1, keepdim=True)
    mixing = torch.zeros((len(sigma), cells, cells), device=sigma.device).double()
    # One product each, not a matrix product, whose last bits depend on the row.
    for weight, mirror in zip(
        weights.unbind(dim=1), _mirrors(cells, reach, sigma.device), strict=True
    ):
        mixing.addcmul_(weight[:, None, None], mirror)
    return mixing


@lru_cache(maxsize=32)
def _mirrors(cells: int, reach: int, device: torch.device) -> Tensor:
    """Return, for each offset, which cell each cell looks at in mirrored borders.

    Shape: (2 * reach + 1, cells, cells) float64 of zeros and ones.
    """
    with torch.inference_mode(mode=False):
        places = torch.arange(cells)[None] + torch.arange(-reach, reach + 1)[:, None]
        folded = places.remainder(2 * cells)
        folded = torch.where(folded < cells, folded, 2 * cells - 1 - folded)
        seen = torch.nn.functional.one_hot(folded, cells).double()
        return seen.to(device)

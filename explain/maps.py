# SPDX-License-Identifier: Apache-2.0
"""Attribution maps as they are stored, read back and upsampled.

A map is stored at its native resolution as float16 relative to one float32
scale, because raw magnitudes go down to 1e-15 where float16 holds nothing.
Everything measured later starts from what ``dequantise`` returns.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from explain.bilinear import axis_samples
from explain.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class StoredMaps:
    """Maps as they are written: relative values and one scale a map.

    Shape: values (N, h, w) float16 in [-1, 1], scale (N,) float32.
    """

    values: Tensor
    scale: Tensor


def quantise(maps: Tensor) -> StoredMaps:
    """Return the stored form of the maps.

    The scale is the largest magnitude of the map. An all-zero map has scale 0;
    a map that holds NaN or infinity is NaN throughout, scale included, so that
    nothing computed from it can pass for a number.

    Shape: (N, h, w) float32.
    """
    _require_maps(maps)
    scale = maps.abs().amax(dim=(1, 2)).float()
    scale = torch.where(torch.isfinite(scale), scale, torch.nan)
    divisor = torch.where(scale == 0, 1.0, scale).double()
    relative = maps.double() / divisor[:, None, None]
    return StoredMaps(values=relative.half(), scale=scale)


def dequantise(stored: StoredMaps) -> Tensor:
    """Return the maps that the stored form stands for.

    Shape: (N, h, w) float32.
    """
    return stored.values.float() * stored.scale[:, None, None]


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the maps resized bilinearly, pixel centres at half-integers.

    The same as ``interpolate(mode="bilinear", align_corners=False)`` up to
    rounding, but with the same bits on every device and in
    ``explain.numpy_maps``; equal neighbours stay exactly equal.

    Shape: (N, h, w) float32 -> (N, H, W) float32.
    """
    _require_maps(maps)
    if min(size) < 1:
        raise InvalidInputError(f"Expected a size of at least 1 x 1, got {size}.")
    low, high, blend = _samples(maps.shape[1], size[0], maps.device)
    rows = _blend(maps.float(), low, high, blend[:, None], dim=1)
    low, high, blend = _samples(maps.shape[2], size[1], maps.device)
    return _blend(rows, low, high, blend, dim=2)


def pool_to_grid(maps: Tensor, grid: int) -> Tensor:
    """Return the maps averaged over a grid of at most so many cells a side.

    A cell holds the area-weighted mean of the pixels that it covers, in parts where
    its border runs through them, so that means times the cells' area sum to the
    map's total. A side shorter than the grid stays as it is. NaN and infinity
    spoil the cells of their row and column.

    Shape: (N, H, W) -> (N, min(grid, H), min(grid, W)) float32.
    """
    _require_maps(maps)
    if grid < 1:
        raise InvalidInputError(f"Expected a grid of at least 1 cell, got {grid}.")
    height, width = maps.shape[1:]
    rows = _shares(height, min(grid, height), maps.device)
    columns = _shares(width, min(grid, width), maps.device)
    # One product a map: a map's bits then do not depend on its neighbours.
    pooled = torch.bmm(rows.expand(len(maps), -1, -1), maps.double())
    return torch.bmm(pooled, columns.T.expand(len(maps), -1, -1)).float()


def energy_retained(maps: Tensor, mask: Tensor) -> Tensor:
    """Return the share of each map's positive energy that lies in its mask.

    A map without positive energy retains 0. Non-finite maps give NaN.

    Shape: maps (N, *positions), mask (N, *positions) bool -> (N,) float64.
    """
    positive = maps.flatten(1).clamp(min=0)
    total = positive.sum(dim=1, dtype=torch.float64)
    kept = torch.where(mask.flatten(1), positive, 0.0).sum(dim=1, dtype=torch.float64)
    return torch.where(total == 0, 0.0, kept / total)


def _blend(maps: Tensor, low: Tensor, high: Tensor, blend: Tensor, dim: int) -> Tensor:
    """Return low + (high - low) * blend along one axis, each step rounded once."""
    first = maps.index_select(dim, low)
    second = maps.index_select(dim, high)
    return second.sub_(first).mul_(blend).add_(first)


@lru_cache(maxsize=64)
def _samples(
    source: int, target: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sampling positions of one axis as tensors on the device."""
    # Tensors made under inference mode would poison later differentiable code.
    with torch.inference_mode(mode=False):
        low, high, blend = axis_samples(source, target)
        return (
            torch.tensor(low, device=device),
            torch.tensor(high, device=device),
            torch.tensor(blend, device=device),
        )


@lru_cache(maxsize=64)
def _shares(side: int, cells: int, device: torch.device) -> Tensor:
    """Return the share of each place in each cell's mean, (cells, side) float64."""
    # In units of 1 / (side * cells) of the axis all borders are whole numbers.
    cell, place = torch.arange(cells)[:, None], torch.arange(side)[None, :]
    ends = torch.minimum((cell + 1) * side, (place + 1) * cells)
    overlap = (ends - torch.maximum(cell * side, place * cells)).clamp(min=0)
    # Tensors made under inference mode would poison later differentiable code.
    with torch.inference_mode(mode=False):
        return (overlap.double() / side).to(device, non_blocking=True)


def _require_maps(maps: Tensor) -> None:
    """Refuse what is not a batch of two-dimensional maps."""
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise InvalidInputError(
            f"Expected maps of shape (N, h, w), got {tuple(maps.shape)}."
        )

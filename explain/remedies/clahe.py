# SPDX-License-Identifier: Apache-2.0
"""Contrast-limited adaptive histogram equalisation of a batch, on its device.

The brightness of a pixel is replaced by its rank in the neighbourhood: the
cumulative histogram of its tile, blended with those of the three tiles nearest.
Clipping the histograms first bounds how much contrast, and noise, may grow.

Source: Zuiderveld 1994, "Contrast Limited Adaptive Histogram Equalization",
Graphics Gems IV, VIII.5. What is clipped there is handed out again in rounds until
none is left; here the level at which those rounds end is computed at once.
"""

from functools import lru_cache

import torch
from torch import Tensor

from explain.bilinear import axis_samples

#: Grey levels that are told apart.
_BINS = 256


def equalised(images: Tensor, clip: float = 0.01, tiles: int = 8) -> Tensor:
    """Return the images with local contrast, hue and saturation as they were.

    The brightness of a pixel is its largest channel (the value of HSV); all channels
    are scaled by what becomes of it, and the result fills [0, 1]. Images of one
    brightness, or that are not finite, come back as they are.

    Args:
        images: (N, C, H, W) float32 in [0, 1].
        clip: Most pixels of a tile in one bin, as a share of the tile; 1 is plain
            adaptive equalisation.
        tiles: Tiles along each side; as many as there are pixels where fewer.
    """
    value = images.amax(dim=1)
    low, high = value.amin(dim=(1, 2)), value.amax(dim=(1, 2))
    usable = (high > low) & images.isfinite().flatten(1).all(dim=1)
    spread = _stretched(value)
    levels = (spread.nan_to_num() * _BINS).long().clamp(0, _BINS - 1)
    enhanced = _stretched(_ranked(levels, clip, tiles))
    gain = enhanced / torch.where(value == 0, 1.0, value)
    result = torch.where(
        value[:, None] == 0, enhanced[:, None], images * gain[:, None]
    ).clamp(0, 1)
    return torch.where(usable[:, None, None, None], result, images)


def _ranked(levels: Tensor, clip: float, tiles: int) -> Tensor:
    """Return each pixel's blended rank in the clipped histograms around it.

    Shape: levels (N, H, W) int64 -> (N, H, W) float32 in [0, 1].
    """
    items, height, width = levels.shape
    down, across = min(tiles, height), min(tiles, width)
    ranks = _cumulated(_histograms(levels, down, across), clip)
    flat = ranks.view(items, down * across * _BINS)
    row_low, row_high, row_blend = _samples(down, height, levels.device)
    low, high, blend = _samples(across, width, levels.device)

    def looked_up(rows: Tensor, columns: Tensor) -> Tensor:
        tile = rows[:, None] * across + columns[None]
        index = tile[None] * _BINS + levels
        return flat.gather(1, index.flatten(1)).view(levels.shape)

    def along_row(rows: Tensor) -> Tensor:
        left, right = looked_up(rows, low), looked_up(rows, high)
        return left + (right - left) * blend

    above, below = along_row(row_low), along_row(row_high)
    return above + (below - above) * row_blend[:, None]


def _histograms(levels: Tensor, down: int, across: int) -> Tensor:
    """Return how many pixels of each tile lie in each bin.

    A pixel belongs to the tile that holds its centre; sizes that do not divide give
    tiles that differ by one pixel.

    Shape: (N, H, W) int64 -> (N, down * across, bins) float64.
    """
    items, height, width = levels.shape
    rows = _tile_of(height, down, levels.device)
    columns = _tile_of(width, across, levels.device)
    index = (rows[:, None] * across + columns[None])[None] * _BINS + levels
    counts = torch.zeros(
        (items, down * across * _BINS), dtype=torch.int64, device=levels.device
    )
    counts.scatter_add_(1, index.flatten(1), torch.ones_like(index).flatten(1))
    return counts.view(items, down * across, _BINS).double()


def _cumulated(counts: Tensor, clip: float) -> Tensor:
    """Return the cumulative shares of histograms clipped to a share of their tile.

    What is clipped fills the other bins alike, none above the limit: bin b holds
    min(limit, count_b + level), with the level at which nothing is left. With room
    d_b = limit - count_b in rising order, the first k bins are full where the level
    (excess - d_1 - ... - d_k) / (bins - k) no longer reaches the next d.

    Shape: (N, tiles, bins) float64 -> the same, float32.
    """
    total = counts.sum(dim=2, keepdim=True)
    limit = (clip * total).clamp(min=1.0)
    kept = torch.minimum(counts, limit)
    excess = total - kept.sum(dim=2, keepdim=True)
    room = (limit - kept).sort(dim=2).values
    used = room.cumsum(dim=2) - room
    left = torch.arange(_BINS, 0, -1, device=counts.device)
    level = (excess - used) / left
    fits = level <= room
    # Where every bin fills up there is no level, and all bins are at the limit.
    first = fits.int().argmax(dim=2, keepdim=True)
    level = torch.where(fits.any(dim=2, keepdim=True), level.gather(2, first), limit)
    filled = torch.minimum(kept + level, limit)
    return (filled.cumsum(dim=2) / total).float().clamp_(0, 1)


def _stretched(values: Tensor) -> Tensor:
    """Return each item's values spread over [0, 1]; (N, H, W) -> the same."""
    low = values.amin(dim=(1, 2), keepdim=True)
    width = values.amax(dim=(1, 2), keepdim=True) - low
    return (values - low) / torch.where(width == 0, 1.0, width)


def _tile_of(pixels: int, tiles: int, device: torch.device) -> Tensor:
    """Return the tile that holds each pixel's centre along one axis, (pixels,)."""
    return (2 * torch.arange(pixels, device=device) + 1) * tiles // (2 * pixels)


@lru_cache(maxsize=32)
def _samples(
    tiles: int, pixels: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two tiles nearest to each pixel along one axis, and their blend."""
    low, high, blend = axis_samples(tiles, pixels)
    with torch.inference_mode(mode=False):
        return (
            torch.tensor(low, device=device),
            torch.tensor(high, device=device),
            torch.tensor(blend, device=device),
        )

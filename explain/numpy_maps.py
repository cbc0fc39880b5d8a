# SPDX-License-Identifier: Apache-2.0
"""Maps and masks without torch, for reports, overlays and outside auditors.

Each function has a namesake over tensors (``explain.maps``,
``explain.thresholds``) and gives the same bits.
"""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from explain.bilinear import axis_samples
from explain.errors import InvalidInputError, InvalidParameterError

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def kept_count(keep: float, positions: int) -> int:
    """Return how many of the positions "keep this fraction" means.

    The fraction is read as the decimal number that it prints as: 0.07 of 100 is
    7, although the binary product is slightly more than 7 and would round up to 8.

    Raises:
        InvalidParameterError: the fraction is not in (0, 1].
    """
    if not 0 < keep <= 1:
        raise InvalidParameterError(
            f"Expected keep to be a fraction above 0 and up to 1, got {keep!r};"
            f" to keep 10 % write 0.10."
        )
    return math.ceil(Decimal(repr(float(keep))) * positions)


def dequantise(
    values: npt.NDArray[np.float16], scale: npt.NDArray[np.float32]
) -> Floats:
    """Return the maps that stored values and scales stand for.

    Shape: values (N, h, w), scale (N,) -> (N, h, w) float32.
    """
    scales = np.asarray(scale, dtype=np.float32).reshape(-1, 1, 1)
    return np.asarray(values, dtype=np.float16).astype(np.float32) * scales


def upsample(maps: Floats, size: tuple[int, int]) -> Floats:
    """Return the maps resized bilinearly, pixel centres at half-integers.

    Shape: (N, h, w) float32 -> (N, H, W) float32.
    """
    if maps.ndim != 3 or 0 in maps.shape[1:] or min(size) < 1:
        raise InvalidInputError(
            f"Expected maps of shape (N, h, w) and a size of at least 1 x 1,"
            f" got {maps.shape} and {size}."
        )
    maps = maps.astype(np.float32, copy=False)
    low, high, blend = axis_samples(maps.shape[1], size[0])
    rows = _blend(maps[:, low, :], maps[:, high, :], blend[:, None])
    low, high, blend = axis_samples(maps.shape[2], size[1])
    return _blend(rows[:, :, low], rows[:, :, high], blend)


def fixed_keep_mask(maps: Floats, keep: float) -> Mask:
    """Return the mask of the positions with the highest positive values.

    Exactly ``kept_count`` positions where that many are positive, otherwise all
    positive ones; equal values are taken by lowest index; a constant or
    non-finite map keeps nothing.

    Shape: (N, *positions) float32 -> the same, bool.
    """
    flat = maps.reshape(len(maps), -1)
    wanted = kept_count(keep, flat.shape[1])
    mask = np.zeros(flat.shape, dtype=np.bool_)
    for row, values in enumerate(flat):
        if not np.isfinite(values).all() or values.min() == values.max():
            continue
        count = min(wanted, int((values > 0).sum()))
        if count:
            cut = np.partition(values, -count)[-count]
            mask[row] = _row_from_cut(values, cut, count)
    return mask.reshape(maps.shape)


def mask_from_cut(
    maps: Floats, cut: npt.ArrayLike, kept: npt.NDArray[np.int64]
) -> Mask:
    """Return the masks that the recorded cuts and counts describe.

    Shape: maps (N, *positions), cut (N,) float32, kept (N,) int64 -> bool.
    """
    flat = maps.reshape(len(maps), -1)
    cuts = np.asarray(cut, dtype=np.float32)
    mask = np.zeros(flat.shape, dtype=np.bool_)
    for row, values in enumerate(flat):
        if kept[row] > 0:
            mask[row] = _row_from_cut(values, cuts[row], int(kept[row]))
    return mask.reshape(maps.shape)


def _row_from_cut(values: npt.NDArray[Any], cut: np.float32, count: int) -> Mask:
    """Return what lies above the cut, and as many at the cut as fill the count."""
    mask: Mask = values > cut
    ties = np.flatnonzero(values == cut)
    mask[ties[: max(0, count - int(mask.sum()))]] = True
    return mask


def _blend(first: Floats, second: Floats, blend: Floats) -> Floats:
    """Return first + (second - first) * blend, each step rounded once."""
    difference = second - first
    difference *= blend
    difference += first
    return difference

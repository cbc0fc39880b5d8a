# SPDX-License-Identifier: Apache-2.0
"""Positions in order of attribution, highest first, ties by lowest index.

On the CPU a stable sort of floats with their indices is slow. Here a value's bits,
turned so that they order as whole numbers, and its index make one 64-bit number,
all of them different; numpy sorts those with vector instructions, and any sort of
them is stable. On 64 maps of 224 x 224 this takes less than half the time of
torch's stable sort, and less than numpy's argsort, which is not stable.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: Positions worked on at once: what a core's own cache holds of 64-bit numbers.
_BLOCK = 65536


def descending(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's values from the highest, and where they stood.

    Equal values come by lowest index; -0.0 equals 0.0 and comes out as it; NaN
    comes first. Waits for nothing on a GPU.

    Shape: flat (N, n) float32 -> (N, n) float32, (N, n) int64.
    """
    if flat.device.type != "cpu":
        ordered = (flat.detach() + 0.0).sort(dim=1, descending=True, stable=True)
        return ordered.values, ordered.indices
    places = np.arange(flat.shape[1], dtype=np.int64)
    values, indices = _sorted_blocks(flat, places[None], 0xFFFFFFFF, np.int64)
    return values, indices


def descending_with(flat: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's values as ``descending`` does, and the marks beside them.

    A mark travels in the lowest bit of its position's number, which spares looking
    it up in the new order.

    Shape: flat (N, n) float32, marks (N, n) bool -> (N, n) float32, (N, n) bool.
    """
    if flat.device.type != "cpu":
        ordered = (flat.detach() + 0.0).sort(dim=1, descending=True, stable=True)
        return ordered.values, marks.gather(1, ordered.indices)
    places = np.arange(0, 2 * flat.shape[1], 2, dtype=np.int64)
    return _sorted_blocks(flat, places[None] + marks.numpy(), 1, np.bool_)


def descending_values(flat: Tensor) -> Tensor:
    """Return each row's values from the highest; NaN comes first.

    Shape: flat (N, n) float32 -> the same.
    """
    clean = flat.detach() + 0.0
    if clean.device.type != "cpu":
        return clean.sort(dim=1, descending=True).values
    # torch cannot hold the reversed view that would spare the copy.
    return torch.from_numpy(np.sort(clean.numpy(), axis=1)).flip(1)


def _sorted_blocks(
    flat: Tensor, low: npt.NDArray[np.int64], taken: int, kind: type[Any]
) -> tuple[Tensor, Tensor]:
    """Return the sorted values and what the taken bits of the low halves hold."""
    maps = flat.detach().numpy()
    items, positions = maps.shape
    low = np.broadcast_to(low, maps.shape)
    values = np.empty((items, positions), dtype=np.float32)
    beside = np.empty((items, positions), dtype=kind)
    step = max(1, _BLOCK // positions)
    for start in range(0, items, step):
        rows = slice(start, start + step)
        keys = _keys(maps[rows])
        keys |= low[rows]
        keys.sort(axis=1)
        beside[rows] = keys & taken
        values[rows] = _values(keys)
    return torch.from_numpy(values), torch.from_numpy(beside)


def _keys(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return numbers whose upper half falls as the values rise; the lower is zero."""
    clean = maps + np.float32(0.0)
    # NaN has many bit patterns, some of which would order as negative.
    if np.isnan(clean).any():
        clean[np.isnan(clean)] = np.nan
    keys = np.invert(_turned(clean.view(np.int32))).astype(np.int64)
    keys <<= 32
    return keys


def _values(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the values that the upper halves of the keys stand for."""
    upper = np.invert((keys >> 32).astype(np.int32))
    return _turned(upper).view(np.float32)


def _turned(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return floats' bits as numbers in the floats' order; does its own inverse.

    The bits of negative floats order backwards, so all but their sign are flipped.
    """
    flips = bits >> 31
    flips &= np.int32(0x7FFFFFFF)
    flips ^= bits
    return flips

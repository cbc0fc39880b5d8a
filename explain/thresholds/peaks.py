# SPDX-License-Identifier: Apache-2.0
"""Peaks of maps, and what belongs to each: its connected part above a level."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from explain.thresholds.components import scientific

#: Steps between two looks at whether anything still grows: a look stops a GPU.
_STEPS = 16


def peaks(maps: Tensor, floor: Tensor, radius: int) -> Tensor:
    """Return where a map is positive, at least its floor and the highest around.

    "Around" is the square of the given radius. Equal values within it are peaks both.

    Shape: maps (N, H, W) float32, floor (N,) -> (N, H, W) bool.
    """
    if maps.device.type == "cpu":
        highest = maps.numpy()
        for axis in (1, 2):
            highest = scientific("scipy.ndimage").maximum_filter1d(
                highest, 2 * radius + 1, axis=axis, mode="constant", cval=-np.inf
            )
        around = torch.from_numpy(highest)
    else:
        side = 2 * radius + 1
        rows = max_pool2d(maps[:, None], (1, side), 1, (0, radius))
        around = max_pool2d(rows, (side, 1), 1, (radius, 0))[:, 0]
    return (maps == around) & (maps >= floor[:, None, None]) & (maps > 0)


def parts_around(maps: Tensor, tops: Tensor, gamma: float) -> Tensor:
    """Return the parts around peaks: connected, and at least gamma of their peak.

    Shape: maps (N, H, W) float32, tops (N, H, W) bool -> (N, H, W) bool.
    """
    if maps.device.type == "cpu":
        parts = [
            _labelled_parts(values, where, np.float32(gamma))
            for values, where in zip(maps.numpy(), tops.numpy(), strict=True)
        ]
        return torch.from_numpy(np.stack(parts)) if parts else tops.clone()
    return grown_parts(maps, tops, gamma)


def _labelled_parts(
    values: npt.NDArray[np.float32], tops: npt.NDArray[np.bool_], gamma: np.float32
) -> npt.NDArray[np.bool_]:
    """Return the parts of one map by labelling; five times faster than growing.

    The lowest peak comes first: a higher one inside its part has its own part
    inside it too, so that one labelling serves both.
    """
    mask = np.zeros_like(tops)
    rows, columns = np.nonzero(tops)
    order = np.argsort(values[rows, columns], kind="stable")
    label = scientific("scipy.ndimage").label
    for row, column in zip(rows[order], columns[order], strict=True):
        if not mask[row, column]:
            high = (values >= gamma * values[row, column]) & (values > 0)
            labels, _ = label(high, np.ones((3, 3), dtype=np.bool_))
            mask |= labels == labels[row, column]
    return mask


def grown_parts(maps: Tensor, tops: Tensor, gamma: float) -> Tensor:
    """Return the parts around peaks, grown from all peaks at once.

    Every position carries the lowest level that it was reached at and hands it on to
    neighbours that stand at least as high (a geodesic dilation).
    """
    level = torch.where(tops, maps * gamma, torch.inf)
    while True:
        before = level
        for _ in range(_STEPS):
            around = -max_pool2d(-level[:, None], 3, 1, 1)[:, 0]
            reached = (maps >= around) & (maps > 0)
            level = torch.where(reached, torch.minimum(level, around), level)
        if torch.equal(level, before):
            return torch.isfinite(level)

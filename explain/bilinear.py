# SPDX-License-Identifier: Apache-2.0
"""Sampling positions of bilinear resizing, shared by torch and numpy.

Both sides take the same positions and weights from here and combine values in
the same order with single-rounded operations (subtract, multiply, add), so that
a map upsampled on a GPU, a CPU or without torch has the same bits, and a mask
can be rebuilt exactly from its cut.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=256)
def axis_samples(
    source: int, target: int
) -> tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    npt.NDArray[np.float32],
]:
    """Return, for each target position, its two source positions and the blend.

    Pixels are areas whose centres lie at half-integers (the convention that
    torch calls ``align_corners=False``); positions beyond the outermost centres
    take the edge value. A target value is ``low + (high - low) * blend``.

    Shape: three arrays (target,): low index, high index, blend in [0, 1).
    """
    centre = (np.arange(target, dtype=np.float64) + 0.5) * (source / target) - 0.5
    centre = np.clip(centre, 0.0, source - 1.0)
    low = np.floor(centre).astype(np.int64)
    high = np.minimum(low + 1, source - 1)
    blend = (centre - low).astype(np.float32)
    for array in (low, high, blend):
        array.flags.writeable = False
    return low, high, blend

# SPDX-License-Identifier: Apache-2.0
"""Random numbers that belong to an item, not to a batch, a worker or an order."""

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidParameterError

_WORD = 2**64


def uniform_noise(
    seed: int, item_index: int, draw: int, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Return uniform noise in [-1, 1) that depends on the arguments alone.

    The generator is counter-based: (seed, item) is its key and the draw the high
    word of its counter, so streams cannot overlap, and the same item gets the
    same noise in whatever batch, process or order it is worked on. Values are
    made from raw bits (24 a value), which numpy keeps stable across versions.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"
    (Philox 4x64).
    """
    for name, value in (("seed", seed), ("item index", item_index), ("draw", draw)):
        if not 0 <= value < _WORD:
            raise InvalidParameterError(
                f"Expected the {name} to lie in 0 .. 2**64 - 1, got {value}."
            )
    key = np.array([seed, item_index], dtype=np.uint64)
    counter = np.array([0, 0, 0, draw], dtype=np.uint64)
    count = int(np.prod(shape, dtype=np.int64))
    words = np.random.Philox(key=key, counter=counter).random_raw((count + 1) // 2)
    halves = np.empty((len(words), 2), dtype=np.uint32)
    halves[:, 0] = words & np.uint64(0xFFFFFFFF)
    halves[:, 1] = words >> np.uint64(32)
    steps = (halves.reshape(-1)[:count] >> np.uint32(8)).astype(np.float32)
    steps *= np.float32(2.0**-23)
    steps -= np.float32(1.0)
    return steps.reshape(shape)

# SPDX-License-Identifier: Apache-2.0
"""The random numbers of a batch's items, as tensors.

A draw belongs to an item (seed, item index, draw number), so that an item gets
the same numbers in whatever batch, process or order it is worked on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explain.errors import InvalidInputError
from explain.randomness import uniform_noise

#: Draw numbers of different users of randomness start this far apart.
_STREAM = 2**32
#: Stands in for an item where all items share one draw (RISE's masks).
_SHARED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ItemDraws:
    """The random numbers of one batch.

    Attributes:
        seed: Of the run.
        indices: Manifest position of each item.
        stream: Which user of randomness this is: metrics are 0, methods 1, remedies
            and policies 2. Streams do not overlap.
    """

    seed: int
    indices: tuple[int, ...]
    stream: int = 1

    @classmethod
    def counted(cls, items: int, seed: int = 0) -> "ItemDraws":
        """Return the draws of items that are numbered from 0, for use outside runs."""
        return cls(seed, tuple(range(items)))

    def uniform(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Return uniform numbers in [-1, 1) for each item, on the CPU.

        Shape: (N, *shape) float32.
        """
        number = self._number(draw)
        rows = [
            uniform_noise(self.seed, index, number, shape) for index in self.indices
        ]
        return torch.from_numpy(np.stack(rows))

    def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Return standard normal numbers for each item, on the CPU.

        Box and Muller's transform of two uniform numbers, in float64.

        Shape: (N, *shape) float32.
        Source: Box and Muller 1958, "A note on the generation of random normal
        deviates".
        """
        pairs = self.uniform(draw, (2, *shape)).double()
        # [-1, 1) to (0, 1], which has a logarithm.
        first = (1 - pairs[:, 0]) / 2
        radius = torch.sqrt(-2 * torch.log(first))
        return (radius * torch.cos(torch.pi * pairs[:, 1])).float()

    def shared_uniform(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Return uniform numbers in [-1, 1) that every item of the run has in common.

        Shape: shape float32.
        """
        return torch.from_numpy(
            uniform_noise(self.seed, _SHARED, self._number(draw), shape)
        )

    def _number(self, draw: int) -> int:
        if not 0 <= draw < _STREAM:
            raise InvalidInputError(
                f"Expected a draw number in 0 .. 2**32 - 1, got {draw}."
            )
        return self.stream * _STREAM + draw

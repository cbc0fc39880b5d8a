# SPDX-License-Identifier: Apache-2.0
"""What a method may know about the items of a batch beside their inputs."""

from dataclasses import dataclass

from torch import Tensor

from explain.draws import ItemDraws

#: Most images in one forward pass of a method that asks the network many times.
DEFAULT_CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ItemContext:
    """What belongs to the items of one batch beside the inputs.

    Attributes:
        draws: Their random numbers.
        images: What a person sees: (N, C, H, W) float32 in [0, 1], before
            normalisation; None where only the normalised inputs are known.
        regions: (N, H, W) int64, a given segmentation: a label for each position.
        neighbours: (U, U) bool, which units of the one item touch, see
            ``ThresholdContext``.
        chunk: Most images in one forward pass. It decides last bits, so it is fixed
            for a run.
    """

    draws: ItemDraws
    images: Tensor | None = None
    regions: Tensor | None = None
    neighbours: Tensor | None = None
    chunk: int = DEFAULT_CHUNK

    @classmethod
    def of(cls, inputs: Tensor, given: "ItemContext | None") -> "ItemContext":
        """Return the given context, or that of items numbered from 0 under seed 0."""
        return given or cls(draws=ItemDraws.counted(len(inputs)))

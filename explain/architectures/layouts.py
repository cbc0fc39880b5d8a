# SPDX-License-Identifier: Apache-2.0
"""How a layer lays its feature map out, and the view of it as (N, C, h, w)."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Layout(Protocol):
    """Where channels and places are in a layer's output."""

    def fits(self, output: Tensor) -> bool:
        """Say whether a tensor has this layout."""

    def to_map(self, output: Tensor) -> Tensor:
        """Return the output, or its gradient, as (N, C, h, w); a view."""

    def from_map(self, maps: Tensor, like: Tensor) -> Tensor:
        """Return a map (N, C, h, w) in the layer's own layout.

        What a map does not hold (class tokens) is taken from ``like``.
        """

    def in_words(self) -> str:
        """Return what the layout expects, for messages."""


@dataclass(frozen=True, slots=True)
class ChannelsFirst:
    """A convolution's layout: (N, C, h, w)."""

    def fits(self, output: Tensor) -> bool:
        """Say whether the tensor is four-dimensional."""
        return output.ndim == 4

    def to_map(self, output: Tensor) -> Tensor:
        """Return the output as it is."""
        return output

    def from_map(self, maps: Tensor, like: Tensor) -> Tensor:  # noqa: ARG002
        """Return the map as it is."""
        return maps

    def in_words(self) -> str:
        """Return what is expected."""
        return "a map (N, C, h, w)"

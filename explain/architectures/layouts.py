# SPDX-License-Identifier: Apache-2.0
"""How a layer lays its feature map out, and the view of it as (N, C, h, w)."""

from dataclasses import dataclass
from typing import Protocol

import torch
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


@dataclass(frozen=True, slots=True)
class ChannelsLast:
    """The layout of torchvision's and timm's Swin: (N, h, w, C)."""

    def fits(self, output: Tensor) -> bool:
        """Say whether the tensor is four-dimensional."""
        return output.ndim == 4

    def to_map(self, output: Tensor) -> Tensor:
        """Return the output with the channels moved forward; a view."""
        return output.permute(0, 3, 1, 2)

    def from_map(self, maps: Tensor, like: Tensor) -> Tensor:  # noqa: ARG002
        """Return the map with the channels moved back; a view."""
        return maps.permute(0, 2, 3, 1)

    def in_words(self) -> str:
        """Return what is expected."""
        return "a channels-last map (N, h, w, C)"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A transformer's layout: (N, prefix + height * width, C), places row by row.

    Attributes:
        prefix: Tokens before the places: class, distillation and register tokens.
        height: Rows of the grid.
        width: Columns of the grid.
    """

    prefix: int
    height: int
    width: int

    def fits(self, output: Tensor) -> bool:
        """Say whether the tensor has exactly the grid's number of tokens."""
        return (
            output.ndim == 3
            and output.shape[1] == self.prefix + self.height * self.width
        )

    def to_map(self, output: Tensor) -> Tensor:
        """Return the tokens that are places, on their grid; a view."""
        shape = (len(output), self.height, self.width, output.shape[2])
        return output[:, self.prefix :].view(shape).permute(0, 3, 1, 2)

    def from_map(self, maps: Tensor, like: Tensor) -> Tensor:
        """Return the map as tokens, behind the prefix of ``like``.

        With more maps than items in ``like`` (perturbations of one item), ``like``
        must hold one item, whose prefix all of them share.
        """
        places = maps.flatten(2).transpose(1, 2)
        if self.prefix == 0:
            return places
        prefix = like[:, : self.prefix].to(maps.dtype).expand(len(maps), -1, -1)
        return torch.cat([prefix, places], dim=1)

    def in_words(self) -> str:
        """Return what is expected."""
        return (
            f"tokens (N, {self.prefix} + {self.height} * {self.width}, C), as many as"
            f" for the example that the layer was resolved with"
        )

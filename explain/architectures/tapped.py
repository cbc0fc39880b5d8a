# SPDX-License-Identifier: Apache-2.0
"""The layer that a method taps."""

from dataclasses import dataclass, field

from torch import nn

from explain.architectures.layouts import ChannelsFirst, Layout


@dataclass(frozen=True, slots=True)
class TappedLayer:
    """A layer to tap, why it was taken, and what it yields.

    ``calls`` is how often the layer runs in one forward pass; methods tap the
    last of them. ``shape`` is its output for one image, (1, C, h, w), whatever
    ``layout`` the layer itself has.
    """

    name: str
    module: nn.Module
    reason: str
    calls: int = 1
    shape: tuple[int, ...] | None = None
    layout: Layout = field(default_factory=ChannelsFirst)

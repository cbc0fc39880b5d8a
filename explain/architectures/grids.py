# SPDX-License-Identifier: Apache-2.0
"""Which layout each traced layer has, found from what the other layers gave.

A shape alone does not say where its channels are: (1, 7, 7, 768) may be a map of
seven channels. The layers that made it do say: a convolution puts its channels
second, a linear layer and a layer norm put theirs last. A container has the
layout of whichever of them gave the same shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from explain.architectures.layouts import ChannelsFirst, ChannelsLast, Layout, Tokens
from explain.architectures.trace import LayerRecord, Trace

#: Most tokens that may stand before the places: a class token, a distillation
#: token and registers. What leaves more over is no grid.
_MOST_PREFIX = 16
#: A hierarchical transformer halves its grid at most this often.
_HALVINGS = 5


@dataclass(frozen=True, slots=True)
class Grids:
    """What one forward pass shows of axes and grids.

    Attributes:
        image: Height and width of the example.
        first: Shapes with channels second, as some convolution gave them.
        last: Shapes with channels last, as some linear layer or norm gave them.
        grids: Heights and widths of the convolutions' maps and their halvings,
            by which tokens are laid out.
    """

    image: tuple[int, int]
    first: frozenset[tuple[int, ...]]
    last: frozenset[tuple[int, ...]]
    grids: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, trace: Trace, image: tuple[int, int]) -> "Grids":
        """Return what the trace shows."""
        first: set[tuple[int, ...]] = set()
        last: set[tuple[int, ...]] = set()
        grids: dict[tuple[int, int], None] = {}
        for record in trace.layers.values():
            if record.shape is None:
                continue
            axis = _channel_axis(record)
            if axis == -1:
                last.add(record.shape)
            elif axis == 1:
                first.add(record.shape)
                if isinstance(record.module, nn.Conv2d) and len(record.shape) == 4:
                    grids[record.shape[2], record.shape[3]] = None
        halved = dict.fromkeys(pair for grid in grids for pair in _halvings(grid))
        return cls(image, frozenset(first), frozenset(last), (*grids, *halved))

    def layout(self, record: LayerRecord) -> Layout | None:
        """Return how the layer lays its map out; None where it yields no map."""
        shape = record.shape
        if shape is None or shape[0] != 1:
            return None
        if len(shape) == 3:
            return self._tokens(shape) if shape in self.last else None
        if len(shape) != 4:
            return None
        axis = _channel_axis(record)
        if axis is None and shape in self.last and shape not in self.first:
            axis = -1
        if axis == -1:
            extent = shape[1] * shape[2] > 1
            fits = extent and self._spans_image(shape[1], shape[2])
            return ChannelsLast() if fits else None
        return ChannelsFirst() if shape[2] * shape[3] > 1 else None

    def _tokens(self, shape: tuple[int, ...]) -> Tokens | None:
        """Return the grid that leaves the fewest tokens before the places."""
        tokens = shape[1]
        fitting = [
            (tokens - height * width, height, width)
            for height, width in self.grids or _squares(tokens)
            if height * width > 1 and 0 <= tokens - height * width <= _MOST_PREFIX
        ]
        if not fitting:
            return None
        return Tokens(*min(fitting, key=lambda found: found[0]))

    def _spans_image(self, height: int, width: int) -> bool:
        """Say whether one stride gives this grid of the image, up to a border.

        Refuses (windows, places of a window) of windowed attention as a grid.
        """
        rows, columns = self.image
        least = max(rows / (height + 1), columns / (width + 1))
        most = min(rows / max(height - 1, 0.5), columns / max(width - 1, 0.5))
        return least <= most


def _channel_axis(record: LayerRecord) -> int | None:
    """Return the axis on which the layer itself puts its channels, if it says so."""
    module, shape = record.module, record.shape
    if isinstance(module, nn.Linear):
        return -1
    if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
        return 1
    width = getattr(module, "normalized_shape", None)
    if shape is None or not isinstance(width, tuple) or len(width) != 1:
        return None
    if type(module) is nn.LayerNorm:
        return -1
    # A subclass may normalise the second axis (ConvNeXt's): the widths tell.
    at_end, at_second = shape[-1] == width[0], shape[1] == width[0]
    return None if at_end == at_second else -1 if at_end else 1


def _halvings(grid: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the grid halved again and again, odd sizes rounded up."""
    height, width = grid
    for _ in range(_HALVINGS):
        height, width = -(-height // 2), -(-width // 2)
        yield height, width


def _squares(tokens: int) -> Iterator[tuple[int, int]]:
    """Yield the largest square grid, for models that patch without a convolution."""
    side = int(tokens**0.5)
    yield side, side

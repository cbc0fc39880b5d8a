# SPDX-License-Identifier: Apache-2.0
"""Which layout each traced layer has, found from what the other layers gave.

A shape alone does not say where its channels are: (1, 7, 7, 768) may be a map of
seven channels. The layers that made it do say: a convolution puts its channels
second, a linear layer and a layer norm put theirs last. A container has the
layout of whichever of them gave the same shape.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from explain.architectures.layouts import ChannelsFirst, ChannelsLast, Layout, Tokens
from explain.architectures.trace import LayerRecord, Trace

Shape = tuple[int, ...]

#: Most tokens that may stand before the places: a class token, a distillation
#: token and registers. What leaves more over is no grid.
_MOST_PREFIX = 16
#: A hierarchical transformer halves its grid at most this often.
_HALVINGS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Grids:
    """What one forward pass shows of axes and grids.

    Attributes:
        image: Height and width of the example.
        second: Shapes with channels second, with the layers that gave them.
        last: Shapes with channels last, with the layers that gave them.
        grids: Heights and widths of the convolutions' maps and their halvings,
            by which tokens are laid out.
    """

    image: tuple[int, int]
    second: Mapping[Shape, list[str]]
    last: Mapping[Shape, list[str]]
    grids: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, trace: Trace, image: tuple[int, int]) -> "Grids":
        """Return what the trace shows."""
        second: dict[Shape, list[str]] = {}
        last: dict[Shape, list[str]] = {}
        grids: dict[tuple[int, int], None] = {}
        for record in trace.layers.values():
            if record.shape is None:
                continue
            axis = _channel_axis(record)
            if axis == -1:
                last.setdefault(record.shape, []).append(record.name)
            elif axis == 1:
                second.setdefault(record.shape, []).append(record.name)
                if isinstance(record.module, nn.Conv2d) and len(record.shape) == 4:
                    grids[record.shape[2], record.shape[3]] = None
        halved = dict.fromkeys(pair for grid in grids for pair in _halvings(grid))
        return cls(image, second, last, (*grids, *halved))

    def layout(self, record: LayerRecord) -> Layout | None:
        """Return how the layer lays its map out; None where it yields no map."""
        shape = record.shape
        if shape is None or shape[0] != 1:
            return None
        if len(shape) == 3:
            return self.tokens(shape[1]) if shape in self.last else None
        if len(shape) != 4:
            return None
        axis = _channel_axis(record) or self._axis_of_container(record.name, shape)
        if axis == -1:
            extent = shape[1] * shape[2] > 1
            fits = extent and self._spans_image(shape[1], shape[2])
            return ChannelsLast() if fits else None
        return ChannelsFirst() if axis == 1 and shape[2] * shape[3] > 1 else None

    def _axis_of_container(self, name: str, shape: Shape) -> int | None:
        """Return the channel axis of a shape, by the layers that gave the same shape.

        Only where height, width and channels are equal can these contradict each
        other. Then those inside the container decide, if they agree; else None.
        """
        if shape not in self.last:
            return 1
        if shape not in self.second:
            return -1
        inside = f"{name}."
        last = any(given.startswith(inside) for given in self.last[shape])
        second = any(given.startswith(inside) for given in self.second[shape])
        return None if last == second else -1 if last else 1

    def tokens(self, tokens: int) -> Tokens | None:
        """Return the grid that leaves the fewest of the tokens before the places."""
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

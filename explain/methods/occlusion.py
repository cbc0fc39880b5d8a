# SPDX-License-Identifier: Apache-2.0
"""Occlusion: how far the class probability falls when a window is covered.

    map[i, j] = mean over windows R that cover (i, j) of  p(x) - p(x with R covered)

Windows start every ``stride`` pixels and are cut off at the border; the last one
reaches it.

Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional
Networks", section 4.2.
"""

import math

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.baselines import baseline_of
from explain.chunking import per_pass
from explain.context import ItemContext
from explain.errors import InvalidParameterError
from explain.frozen import frozen
from explain.methods.input_forward import as_columns, plain_forward
from explain.methods.method import Attribution
from explain.methods.perturbed_scores import (
    perturbation_attribution,
    perturbed_scores,
    probability,
    unmoved,
)

#: A window that is not named covers this share of the shorter side: 32 in 224.
_WINDOW = 1 / 7


class Occlusion:
    """Occlusion of one model's inputs."""

    name = "occlusion"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        window: int = 0,
        stride: int = 0,
        baseline: str = "zero",
    ) -> None:
        self._model = model
        self._window = window
        self._stride = stride
        self._baseline = baseline

    @property
    def passes(self) -> float:
        """One forward pass a window and one for the whole, at 224 x 224."""
        window, stride = self._sizes(224, 224)
        return 1.0 + _windows(224, window, stride) ** 2

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the mean fall of the target's softmax probability.

        All targets of an item share the forward passes. The map has one value a
        window where windows tile the input without overlap or rest, and one a pixel
        otherwise.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W), or
        (N, H / window, W / window).

        Raises:
            InvalidParameterError: window or stride does not fit the input.
            InvalidTargetError: a target class the model does not have.
        """
        given = ItemContext.of(inputs, context)
        with frozen(self._model), torch.no_grad():
            logits, classes = plain_forward(self._model, inputs, targets)
            height, width = inputs.shape[2:]
            window, stride = self._sizes(height, width)
            # A field of one row, as of words, has windows of one row.
            high, wide = min(window, height), min(window, width)
            rows = _covered(height, high, min(stride, high), inputs.device)
            columns = _covered(width, wide, min(stride, wide), inputs.device)
            baseline = baseline_of(inputs, self._baseline)

            def covered(start: int, stop: int) -> Tensor:
                number = torch.arange(start, stop, device=inputs.device)
                row = rows.index_select(0, number // len(columns))
                column = columns.index_select(0, number % len(columns))
                mask = row[:, None, :, None] & column[:, None, None, :]
                return torch.where(mask, baseline[:, None], inputs[:, None])

            scores, halved = perturbed_scores(
                self._model,
                classes,
                len(rows) * len(columns),
                per_pass(len(inputs), given.chunk),
                covered,
                probability,
            )
            whole = probability(logits[:, None], as_columns(classes))[:, 0]
            falls = (whole[:, None] - scores).transpose(1, 2)
            falls = falls.reshape(*whole.shape, len(rows), len(columns))
            tiled = stride == window and height % high == width % wide == 0
            maps = falls if tiled else _spread(falls, rows, columns)
            blank = unmoved(scores, whole, inputs, baseline)
        return perturbation_attribution(logits, classes, maps, blank, halved=halved)

    def _sizes(self, height: int, width: int) -> tuple[int, int]:
        """Return window and stride in pixels of an input.

        Raises:
            InvalidParameterError: the window is larger than the input, or windows
                would leave gaps.
        """
        window = self._window or max(1, round(min(height, width) * _WINDOW))
        stride = self._stride or max(1, window // 2)
        longest = max(height, width) if height == 1 else min(height, width)
        if window > longest or stride > window:
            raise InvalidParameterError(
                f"method 'occlusion': expected stride <= window <= the input's shorter"
                f" side {longest}, got stride {stride} and window {window}."
            )
        return window, stride


def _windows(side: int, window: int, stride: int) -> int:
    """Return how many windows it takes to reach the end of a side."""
    return 1 + math.ceil((side - window) / stride)


def _covered(side: int, window: int, stride: int, device: torch.device) -> Tensor:
    """Return which places of a side each window covers, (windows, side) bool."""
    start = torch.arange(_windows(side, window, stride), device=device) * stride
    place = torch.arange(side, device=device)
    return (place >= start[:, None]) & (place < start[:, None] + window)


def _spread(falls: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return each pixel's mean fall over the windows that cover it.

    Shape: falls (N, T, r, c), rows (r, H), columns (c, W) -> (N, T, H, W) float64.
    """
    down, across = rows.double(), columns.double()
    flat = falls.flatten(0, 1)
    # One product a map: a map's bits then do not depend on its neighbours.
    sums = torch.bmm(down.T.expand(len(flat), -1, -1), flat)
    sums = torch.bmm(sums, across.expand(len(flat), -1, -1))
    counts = down.sum(dim=0)[:, None] * across.sum(dim=0)
    return (sums / counts).view(*falls.shape[:2], *counts.shape)

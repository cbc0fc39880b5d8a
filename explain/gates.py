# SPDX-License-Identifier: Apache-2.0
"""Items that are no images, seen through gates: one number for each unit of an item.

A unit is what an explanation ranks: a word, a time step (of one feature), an edge or
node, a column. A gate of 1 leaves its unit as the item has it, 0 puts the unit's
baseline there, and between the two

    x(g) = b + g * (x - b)

with x the item as numbers, b its baseline, and g spread over the numbers of each unit.
A network behind gates is a function of a field of gates (N, 1, h, w), which is what
methods, policies and metrics of this package take; an item as it is has gates of 1. So

- the gradient at the gate is gradient x (input - baseline), summed over the unit;
- integrated gradients from gates 0 to 1 are those from the baseline to the item;
- a coalition of units is a field of zeros and ones.

Source: the masking game of Lundberg and Lee 2017, "A Unified Approach to Interpreting
Model Predictions", section 4, with the straight path of Sundararajan et al. 2017,
equation 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError

#: Rows and columns of an item's units.
Units = tuple[int, int]


class Content(Protocol):
    """One decoded item, as its kind keeps it."""

    @property
    def units(self) -> Units:
        """Rows and columns of its units, each at least 1."""


class GatedNetwork(nn.Module, ABC):
    """A network that sees some items of one kind through their gates.

    An item whose units are fewer than the largest item's has its own in the first
    rows and columns; gates behind them change nothing.

    Attributes:
        units: Of each item.
        field: Rows and columns of the gates: the most of each that an item has.
    """

    def __init__(self, units: Sequence[Units]) -> None:
        """Take the items' sizes; a subclass keeps network and contents."""
        super().__init__()
        if not units or any(min(each) < 1 for each in units):
            raise InvalidInputError("Expected items of at least one unit each.")
        self.units = tuple(units)
        self.field = (max(h for h, _ in units), max(w for _, w in units))

    @abstractmethod
    def forward(self, gates: Tensor) -> Tensor:
        """Return the logits of the items seen through the gates.

        The M rows are altered copies of the N items, an item's copies one after the
        other: row r is of item ``r // (M // N)``. A row's logits depend on its own
        gates alone. Differentiable in the gates where the network is.

        Shape: gates (M, 1, h, w) float32, M a multiple of N -> (M, K).
        """

    def neighbours(self, item: int = 0) -> Tensor | None:  # noqa: ARG002 - a kind's own
        """Return which units of an item touch, where its kind says so.

        Shape: (U, U) bool, symmetric, units in row order.
        """
        return None

    def open_gates(self, device: torch.device | None = None) -> Tensor:
        """Return the gates of the items as they are, zero behind an item's units.

        Shape: (N, 1, h, w) float32.
        """
        gates = torch.zeros((len(self.units), 1, *self.field), device=device)
        for row, (height, width) in zip(gates, self.units, strict=True):
            row[:, :height, :width] = 1
        return gates

    def item_of_rows(self, rows: int, device: torch.device | None = None) -> Tensor:
        """Return the item of each row, (rows,) int64.

        Raises:
            InvalidInputError: not a whole number of copies.
        """
        items = len(self.units)
        if rows % items:
            raise InvalidInputError(
                f"Expected a whole number of copies of {items} items, got {rows} rows."
            )
        return torch.arange(items, device=device).repeat_interleave(rows // items)

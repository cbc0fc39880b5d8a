# SPDX-License-Identifier: Apache-2.0
"""A network, or a tree model, that sees rows through a gate for each column.

    x(g) = b + g (x - b)

with one gate for all numbers of a column. Between 0 and 1 the row is a mixture by
value; a tree model takes it like any other row.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError
from explain.gates import GatedNetwork
from explain.tables.rows import RowContent


class GatedTable(GatedNetwork):
    """A function of the columns' gates of some rows.

    Attributes:
        network: From numbers (M, E) to class scores (M, K).
        space: What the rows' numbers mean.
        baseline: (E,) float32, the row whose every gate is closed, on the CPU.
    """

    def __init__(self, network: nn.Module, contents: Sequence[RowContent]) -> None:
        """Take the network and the rows.

        Raises:
            InvalidInputError: no rows, or rows of different spaces.
        """
        super().__init__([content.units for content in contents])
        self.network = network
        self.space = contents[0].space
        if any(content.space is not self.space for content in contents):
            raise InvalidInputError("Expected rows that share one space of columns.")
        # Tensors made under inference mode would poison later differentiable code.
        with torch.inference_mode(mode=False):
            stacked = np.stack([content.values for content in contents])
            self._values = torch.from_numpy(stacked)
            self.baseline = torch.from_numpy(self.space.baseline.copy())
            self._column_of = torch.from_numpy(self.space.column_of.copy())

    def forward(self, gates: Tensor) -> Tensor:
        """Return the class scores of the rows seen through the gates.

        Shape: (M, 1, 1, C) float32 -> (M, K).
        """
        scores: Tensor = self.network(self.rows(gates))
        return scores

    def rows(self, gates: Tensor) -> Tensor:
        """Return the rows seen through the gates, as numbers.

        A gate of exactly 1 gives the item's own bits and one of 0 the baseline's:
        trees split between neighbouring numbers, so that a rounding would matter.

        Shape: (M, 1, 1, C) float32 -> (M, E) float32.

        Raises:
            InvalidInputError: gates of another number of columns, or not a whole
                number of copies.
        """
        columns = len(self.space.widths)
        if gates.shape[1:] != (1, 1, columns):
            raise InvalidInputError(
                f"Expected gates (M, 1, 1, {columns}), got {tuple(gates.shape)}."
            )
        device = gates.device
        items = self.item_of_rows(len(gates), device)
        values = self._values.to(device)[items]
        spread = gates[:, 0, 0].index_select(1, self._column_of.to(device))
        # It starts from the nearer end, so that no rounding is left at either.
        return torch.lerp(self.baseline.to(device).expand_as(values), values, spread)

    def summed(self, values: Tensor) -> Tensor:
        """Return what the numbers of each column have in sum.

        Shape: (N, E) -> (N, C) float64.
        """
        sums = torch.zeros(
            len(values),
            len(self.space.widths),
            dtype=torch.float64,
            device=values.device,
        )
        return sums.index_add_(1, self._column_of.to(values.device), values.double())

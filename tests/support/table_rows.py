# SPDX-License-Identifier: Apache-2.0
"""Rows, networks and tree models for tests of tables, all made from seeds."""

from collections.abc import Sequence
from itertools import chain, combinations
from math import factorial

import numpy as np
import torch
from torch import Tensor, nn

from explain.tables.gated_table import GatedTable
from explain.tables.rows import RowContent, RowSpace

#: Two numeric columns, a category of three levels, one more numeric column.
WIDTHS = (1, 1, 3, 1)


def space(widths: Sequence[int] = WIDTHS, seed: int = 0) -> RowSpace:
    """Return a space whose baseline is not zero."""
    draw = np.random.default_rng(seed)
    return RowSpace(
        widths=tuple(widths),
        baseline=draw.normal(0.0, 0.5, sum(widths)).astype(np.float32),
    )


def contents(where: RowSpace, count: int, seed: int = 1) -> list[RowContent]:
    """Return rows of normal numbers."""
    draw = np.random.default_rng(seed)
    return [
        RowContent(where, draw.normal(size=where.size).astype(np.float32))
        for _ in range(count)
    ]


def mlp(inputs: int, classes: int = 3, seed: int = 0) -> nn.Sequential:
    """Return a network with an activation that works in place, and a smooth one."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(inputs, 16),
        nn.ReLU(inplace=True),
        nn.Linear(16, 12),
        nn.GELU(),
        nn.Linear(12, classes),
    )
    for parameter in network.parameters():
        parameter.data.normal_(0.0, 0.6, generator=generator)
    return network.eval()


def gated(
    network: nn.Module | None = None, count: int = 5, widths: Sequence[int] = WIDTHS
) -> GatedTable:
    """Return rows behind gates, before the usual network or the given one."""
    where = space(widths)
    return GatedTable(network or mlp(where.size), contents(where, count))


def brute_force(model: GatedTable, item: int, target: int, score: nn.Module) -> Tensor:
    """Return the Shapley values of the columns of one item, by the definition.

    Args:
        model: Rows behind gates.
        item: Which of its items.
        target: Which score.
        score: From numbers (M, E) to scores (M, K), float64 where it can be.

    Shape: (C,) float64.
    """
    count, items = model.field[1], len(model.units)

    def value(members: Sequence[int]) -> float:
        gates = torch.zeros(items, 1, 1, count)
        gates[item, 0, 0, list(members)] = 1
        with torch.no_grad():
            return float(score(model.rows(gates))[item, target])

    found = torch.zeros(count, dtype=torch.float64)
    for column in range(count):
        others = [each for each in range(count) if each != column]
        subsets = chain.from_iterable(
            combinations(others, size) for size in range(count)
        )
        for subset in subsets:
            weight = factorial(len(subset)) * factorial(count - len(subset) - 1)
            gain = value((*subset, column)) - value(subset)
            found[column] += weight / factorial(count) * gain
    return found

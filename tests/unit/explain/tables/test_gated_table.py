# SPDX-License-Identifier: Apache-2.0
"""Rows behind gates: one gate for all numbers of a column."""

import warnings

import numpy as np
import pytest
import torch

from explain.errors import InvalidInputError
from explain.maps import quantise
from explain.methods.input_gradient import InputGradient
from explain.tables.gated_table import GatedTable
from explain.tables.rows import RowContent, RowSpace
from tests.support.table_rows import WIDTHS, contents, gated, mlp, space


def test_open_gates_are_the_row_and_closed_ones_the_baseline_bit_for_bit() -> None:
    """Trees split between neighbouring numbers, so that no rounding is allowed."""
    where = RowSpace(widths=(1, 1), baseline=np.array([0.1, 1e7 + 1], dtype=np.float32))
    values = np.array([35.3, 0.3], dtype=np.float32)
    model = GatedTable(mlp(2), [RowContent(where, values)])
    gates = model.open_gates()
    assert torch.equal(model.rows(gates)[0], torch.from_numpy(values))
    assert torch.equal(model.rows(gates * 0)[0], torch.from_numpy(where.baseline))


def test_a_gate_moves_its_own_column_alone() -> None:
    """A category's numbers go together, half way at a gate of a half."""
    model = gated(count=1)
    gates = model.open_gates()
    gates[0, 0, 0, 2] = 0.5
    whole, moved = model.rows(model.open_gates())[0], model.rows(gates)[0]
    assert torch.equal(whole != moved, torch.tensor([0, 0, 1, 1, 1, 0]).bool())
    baseline = torch.from_numpy(model.space.baseline)
    assert torch.allclose(moved[2:5], (whole[2:5] + baseline[2:5]) / 2, atol=1e-6)


def test_copies_of_an_item_lie_one_after_the_other() -> None:
    """Row r is of item r // (M // N), as gates of every kind have it."""
    model = gated(count=3)
    gates = model.open_gates().repeat_interleave(4, dim=0)
    rows = model.rows(gates)
    assert torch.equal(rows, model.rows(model.open_gates()).repeat_interleave(4, 0))
    with pytest.raises(InvalidInputError, match="whole number of copies"):
        model.rows(gates[:7])


def test_an_item_is_the_same_beside_other_items() -> None:
    """Neither order nor neighbours change what is stored of a row."""
    where = space()
    rows = contents(where, 4)
    network = mlp(where.size)
    one = GatedTable(network, rows)
    other = GatedTable(network, [rows[2], rows[0], rows[3], rows[1]])
    order = [2, 0, 3, 1]
    assert torch.equal(
        other.rows(other.open_gates()), one.rows(one.open_gates())[order]
    )
    ours = InputGradient(one).explain(one.open_gates(), None)
    theirs = InputGradient(other).explain(other.open_gates(), None)
    assert torch.equal(quantise(theirs.maps).values, quantise(ours.maps).values[order])
    alone = GatedTable(network, rows[3:])
    single = InputGradient(alone).explain(alone.open_gates(), None)
    assert torch.equal(quantise(single.maps).values, quantise(ours.maps).values[3:])


def test_the_gradient_at_the_gate_is_captums_gradient_times_difference() -> None:
    """Summed over the numbers of each column, with the baseline taken off."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import Saliency
    model = gated()
    targets = torch.tensor([0, 1, 2, 1, 0])
    rows = model.rows(model.open_gates())
    slopes = Saliency(model.network).attribute(
        rows.clone().requires_grad_(), target=targets, abs=False
    )
    expected = model.summed(slopes * (rows - torch.from_numpy(model.space.baseline)))
    gates = model.open_gates().requires_grad_()
    scores = model(gates).gather(1, targets[:, None]).sum()
    (found,) = torch.autograd.grad(scores, gates)
    assert torch.allclose(found[:, 0, 0].double(), expected, atol=1e-5)


def test_rows_of_other_shapes_and_values_are_refused() -> None:
    """What is no row of the space never reaches the network."""
    where = space()
    with pytest.raises(InvalidInputError, match="row of 6 float32 numbers"):
        RowContent(where, np.zeros(5, dtype=np.float32))
    with pytest.raises(InvalidInputError, match="row of 6 float32 numbers"):
        RowContent(where, np.zeros(6))
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        RowContent(where, np.full(6, np.inf, dtype=np.float32))
    with pytest.raises(InvalidInputError, match="at least one number"):
        RowSpace(widths=(1, 0), baseline=np.zeros(1, dtype=np.float32))
    with pytest.raises(InvalidInputError, match="share one space"):
        GatedTable(mlp(6), [*contents(where, 1), *contents(space(), 1)])
    with pytest.raises(InvalidInputError, match=r"gates \(M, 1, 1, 4\)"):
        gated(count=1).rows(torch.ones(1, 1, 1, len(WIDTHS) + 1))

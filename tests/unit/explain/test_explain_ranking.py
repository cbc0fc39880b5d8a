# SPDX-License-Identifier: Apache-2.0
"""Ranking is a stable sort, whatever the values and however it is done."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.ranking import descending, descending_values, descending_with

rows = st.lists(
    st.lists(
        st.one_of(st.integers(-3, 3), st.floats(width=32)), min_size=9, max_size=9
    ),
    min_size=0,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(values=rows)
def test_equals_a_stable_sort(values: list[list[float]]) -> None:
    """Values, places and marks come as torch's stable descending sort gives them."""
    flat = torch.tensor(values, dtype=torch.float32).reshape(-1, 9)
    marks = flat > 0
    expected = (flat + 0.0).sort(dim=1, descending=True, stable=True)
    found, places = descending(flat)
    assert torch.equal(places, expected.indices)
    marked, order = descending_with(flat, marks)
    assert torch.equal(order, marks.gather(1, expected.indices))
    for result in (found, marked, descending_values(flat)):
        assert np.array_equal(result.numpy(), expected.values.numpy(), equal_nan=True)
        assert result.dtype == torch.float32


def test_extremes_keep_their_order() -> None:
    """NaN of either sign first, then infinity, denormals in place, zeros alike."""
    quiet = np.array([0xFFC00000], dtype=np.uint32).view(np.float32)[0]
    row = [0.0, -0.0, 1e-45, -1e-45, math.inf, -math.inf, quiet, math.nan]
    flat = torch.tensor([row, [1.0] * 8], dtype=torch.float32)
    values, places = descending(flat)
    assert places.tolist() == [[6, 7, 4, 2, 0, 1, 3, 5], list(range(8))]
    assert values[0, 3:].tolist() == flat[0, [2, 0, 1, 3, 5]].tolist()
    assert not torch.signbit(values[0, 4:6]).any()


@pytest.mark.parametrize("positions", [1, 70_000])
def test_rows_do_not_depend_on_their_neighbours(positions: int) -> None:
    """A row alone and a row in a batch are ranked alike, across blocks too."""
    generator = torch.Generator().manual_seed(2)
    flat = torch.randint(0, 50, (5, positions), generator=generator).float()
    values, places = descending(flat)
    for row in range(5):
        alone = descending(flat[row : row + 1])
        assert torch.equal(alone[0][0], values[row])
        assert torch.equal(alone[1][0], places[row])
    assert torch.equal(flat.gather(1, places), values)


def test_other_devices_are_not_waited_for() -> None:
    """Nothing is read back while ranking: tensors without data can be ranked."""
    flat = torch.zeros(3, 10, device="meta")
    values, places = descending(flat)
    assert values.shape == places.shape == (3, 10)
    assert descending_values(flat).device.type == "meta"
    assert descending_with(flat, flat.bool())[1].dtype == torch.bool


def test_maps_are_not_changed() -> None:
    """Ranking reads."""
    flat = torch.tensor([[-0.0, 3.0, math.nan]])
    before = flat.clone()
    descending(flat)
    descending_with(flat, flat > 0)
    assert torch.equal(flat.view(torch.int32), before.view(torch.int32))

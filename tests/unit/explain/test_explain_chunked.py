# SPDX-License-Identifier: Apache-2.0
"""Thresholds by chunk and hierarchically."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from explain.errors import InvalidParameterError
from explain.thresholds import ThresholdStatus, create_policy


def slow_mask(values: list[float], keep: float, size: int, chunks: float) -> list[bool]:
    """Return the mask by plain loops."""
    starts = list(range(0, len(values), size))
    means = [
        math.fsum(max(0.0, value) for value in values[start : start + size])
        / len(values[start : start + size])
        for start in starts
    ]
    order = sorted(range(len(starts)), key=lambda place: (-means[place], place))
    mask = [False] * len(values)
    for place in order[: math.ceil(chunks * len(starts) - 1e-9)]:
        steps = range(starts[place], min(starts[place] + size, len(values)))
        best = sorted(steps, key=lambda step: (-values[step], step))
        for step in best[: math.ceil(keep * len(steps) - 1e-9)]:
            mask[step] = values[step] > 0
    return mask


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.integers(-3, 6), min_size=23, max_size=23), min_size=1, max_size=3
    ),
    keep=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    size=st.integers(1, 30),
    chunks=st.sampled_from([0.2, 0.5, 1.0]),
)
def test_masks_equal_plain_loops(
    rows: Any, keep: float, size: int, chunks: float
) -> None:
    """Whatever the sizes, with ties, and whatever the neighbours."""
    maps = torch.tensor(rows, dtype=torch.float32)
    policy = create_policy("chunked", keep=keep, size=size, chunks=chunks)
    found = policy.apply(maps)
    for row, mask in zip(maps, found.mask, strict=True):
        usable = float(row.max()) > float(row.min()) and float(row.max()) > 0
        expected = slow_mask(row.tolist(), keep, min(size, 23), chunks)
        assert mask.tolist() == (expected if usable else [False] * 23)
    assert found.achieved.tolist() == pytest.approx((found.kept.double() / 23).tolist())


def two_peaks() -> Tensor:
    """Return a map of 100 steps: a high first half, a low but positive second one."""
    first = torch.linspace(5.0, 6.0, 50)
    return torch.cat([first, torch.linspace(0.1, 0.2, 50)])[None]


def test_by_chunk_no_part_of_a_long_sequence_is_left_out() -> None:
    """One fraction for all falls on the first half; by chunk each gets its share."""
    whole = create_policy("fixed", keep=0.1).apply(two_peaks())
    assert not whole.mask[0, 50:].any()
    by_chunk = create_policy("chunked", keep=0.1, size=10).apply(two_peaks())
    assert by_chunk.mask.view(10, 10).sum(dim=1).tolist() == [1] * 10
    assert by_chunk.status == [ThresholdStatus.OK]


def test_hierarchically_the_best_chunks_alone_are_cut() -> None:
    """Chunks are chosen first, then steps within them; 0 takes the square root."""
    policy = create_policy("chunked", keep=0.5, chunks=0.3)
    found = policy.apply(two_peaks())
    assert found.mask.view(10, 10).sum(dim=1).tolist() == [0, 0, 5, 5, 5] + [0] * 5


def test_maps_that_show_nothing_keep_nothing() -> None:
    """Constant, negative and broken maps have a status."""
    maps = torch.stack([torch.ones(6), -torch.arange(6.0), torch.full((6,), torch.nan)])
    found = create_policy("chunked", keep=0.5).apply(maps)
    assert not found.mask.any()
    assert found.status == [
        ThresholdStatus.CONSTANT_MAP,
        ThresholdStatus.INSUFFICIENT_SUPPORT,
        ThresholdStatus.NON_FINITE,
    ]


@pytest.mark.parametrize("given", [{"keep": 0}, {"chunks": 1.5}, {"size": -1}])
def test_parameters_out_of_range_are_refused(given: dict[str, Any]) -> None:
    """Fractions are above 0 and at most 1, sizes at least 0."""
    with pytest.raises(InvalidParameterError, match="chunked"):
        create_policy("chunked", **given)

# SPDX-License-Identifier: Apache-2.0
"""Thresholds keep an exact count, the same one whoever asks and in what order."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from explain import numpy_maps
from explain.errors import (
    InvalidInputError,
    InvalidParameterError,
    UnknownNameError,
)
from explain.maps import dequantise, energy_retained, quantise, upsample
from explain.thresholds import (
    POLICIES,
    FixedKeep,
    ThresholdStatus,
    create_policy,
    mask_from_cut,
)

keeps = st.sampled_from([0.01, 0.05, 0.07, 0.1, 0.2, 0.29, 0.5, 0.57, 1.0])
#: Few distinct values, zeros and negatives among them, so that ties are the rule.
coarse = st.lists(
    st.lists(st.integers(-2, 4), min_size=12, max_size=12), min_size=1, max_size=5
)


def slow_mask(values: list[float], keep: float) -> list[bool]:
    """Return the mask by sorting indices: value descending, then index ascending."""
    wanted = math.ceil(Fraction(str(keep)) * len(values))
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    chosen = [index for index in order if values[index] > 0][:wanted]
    if len(set(values)) == 1:
        chosen = []
    return [index in set(chosen) for index in range(len(values))]


def tie_free(count: int, positions: int, seed: int) -> Tensor:
    """Return positive maps in which no value occurs twice."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(positions, generator=generator) + 1 for _ in range(count)]
    return torch.stack(rows).float() / positions


@settings(max_examples=150, deadline=None)
@given(rows=coarse, keep=keeps)
def test_equals_sorting_by_value_and_index(rows: list[list[int]], keep: float) -> None:
    """Whatever the ties, zeros and signs, the mask is that of a stable sort."""
    maps = torch.tensor(rows, dtype=torch.float32).reshape(-1, 3, 4)
    result = FixedKeep(keep).apply(maps)
    expected = [slow_mask([float(v) for v in row], keep) for row in rows]
    assert result.mask.flatten(1).tolist() == expected
    assert (
        numpy_maps.fixed_keep_mask(maps.numpy(), keep).reshape(len(rows), -1).tolist()
        == expected
    )
    counts = torch.tensor(expected).sum(dim=1)
    assert torch.equal(result.achieved, counts.double() / 12)
    energy = energy_retained(maps, result.mask)
    assert torch.allclose(result.energy_retained, energy, rtol=1e-14, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    positions=st.integers(2, 400), keep=st.floats(0.001, 1.0), seed=st.integers(0, 99)
)
def test_the_count_is_exact_where_support_suffices(
    positions: int, keep: float, seed: int
) -> None:
    """Exactly ceil(keep * n) positions are kept, keep read as its decimal number."""
    result = FixedKeep(keep).apply(tie_free(2, positions, seed))
    wanted = math.ceil(Fraction(repr(keep)) * positions)
    assert result.mask.sum(dim=1).tolist() == [wanted, wanted]
    assert result.status == [ThresholdStatus.OK] * 2


@pytest.mark.parametrize(
    ("keep", "positions", "count"),
    [(0.07, 100, 7), (0.29, 100, 29), (0.57, 100, 57), (0.1, 50176, 5018), (1.0, 9, 9)],
)
def test_a_binary_fraction_does_not_add_a_position(
    keep: float, positions: int, count: int
) -> None:
    """0.07 x 100 is 7, although its float product is 7.000000000000001."""
    assert numpy_maps.kept_count(keep, positions) == count


@settings(max_examples=50, deadline=None)
@given(rows=coarse, pair=st.tuples(keeps, keeps))
def test_a_larger_fraction_keeps_everything_that_a_smaller_one_keeps(
    rows: list[list[int]], pair: tuple[float, float]
) -> None:
    """Masks are nested in keep, and so is the energy they retain."""
    maps = torch.tensor(rows, dtype=torch.float32)
    small, large = (FixedKeep(keep).apply(maps) for keep in sorted(pair))
    assert not bool((small.mask & ~large.mask).any())
    assert bool((small.energy_retained <= large.energy_retained).all())


@settings(max_examples=50, deadline=None)
@given(rows=coarse, keep=keeps, random=st.randoms(use_true_random=False))
def test_the_order_of_the_batch_does_not_matter(
    rows: list[list[int]], keep: float, random: np.random.Generator
) -> None:
    """Every item's result goes with the item, and items may stand alone."""
    maps = torch.tensor(rows, dtype=torch.float32)
    order = list(range(len(rows)))
    random.shuffle(order)
    whole, moved = FixedKeep(keep).apply(maps), FixedKeep(keep).apply(maps[order])
    assert torch.equal(moved.mask, whole.mask[order])
    assert torch.equal(moved.cut, whole.cut[order])
    assert torch.equal(moved.energy_retained, whole.energy_retained[order])
    assert moved.status == [whole.status[item] for item in order]
    alone = FixedKeep(keep).apply(maps[:1])
    assert torch.equal(alone.mask, whole.mask[:1])


@settings(max_examples=100, deadline=None)
@given(rows=coarse, keep=keeps)
def test_the_mask_is_rebuilt_from_cut_and_count(
    rows: list[list[int]], keep: float
) -> None:
    """Two recorded numbers an item give the mask back bit for bit, ties included."""
    maps = torch.tensor(rows, dtype=torch.float32)
    result = FixedKeep(keep).apply(maps)
    counts = (result.achieved * 12).round().long()
    assert torch.equal(counts, result.kept)
    assert torch.equal(mask_from_cut(maps, result.cut, counts), result.mask)
    rebuilt = numpy_maps.mask_from_cut(maps.numpy(), result.cut.numpy(), counts.numpy())
    assert np.array_equal(rebuilt, result.mask.numpy())


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.2])
def test_masks_of_real_maps_are_the_same_without_torch(keep: float) -> None:
    """From the stored map, numpy arrives at torch's mask, directly and by the cut."""
    generator = torch.Generator().manual_seed(7)
    stored = quantise(torch.rand(6, 7, 7, generator=generator).sub(0.4).relu() * 1e-9)
    result = FixedKeep(keep).apply(upsample(dequantise(stored), (224, 224)))
    native = numpy_maps.dequantise(stored.values.numpy(), stored.scale.numpy())
    maps = numpy_maps.upsample(native, (224, 224))
    assert np.array_equal(numpy_maps.fixed_keep_mask(maps, keep), result.mask.numpy())
    counts = (result.achieved * 224 * 224).round().long()
    rebuilt = numpy_maps.mask_from_cut(maps, result.cut.numpy(), counts.numpy())
    assert np.array_equal(rebuilt, result.mask.numpy())


def test_the_cut_is_the_smallest_kept_value() -> None:
    """What lies in the mask is at or above the cut, what does not is at or below."""
    maps = tie_free(3, 100, 4)
    result = FixedKeep(0.25).apply(maps)
    for item in range(3):
        kept = maps[item][result.mask[item]]
        left = maps[item][~result.mask[item]]
        assert float(kept.min()) == float(result.cut[item])
        assert float(left.max()) < float(result.cut[item])
    assert result.cut.dtype == torch.float32


def test_energy_is_the_kept_share_of_the_sum() -> None:
    """The largest of 4, 3, 2, 1 holds 4 tenths of the sum."""
    result = FixedKeep(0.25).apply(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    assert result.energy_retained.tolist() == [0.4]
    assert result.requested.tolist() == result.achieved.tolist() == [0.25]


def test_a_plateau_is_cut_by_index() -> None:
    """Equal values fill the count from the front."""
    result = FixedKeep(0.5).apply(torch.tensor([[1.0, 2.0, 1.0, 1.0, 0.0, 0.0]]))
    assert result.mask.tolist() == [[True, True, True, False, False, False]]


def test_zeros_are_never_kept() -> None:
    """With too little support the mask is smaller than asked, and says so."""
    maps = torch.tensor([[5.0, 0.0, 0.0, 0.0], [4.0, 3.0, 2.0, -1.0]])
    result = FixedKeep(0.5).apply(maps)
    assert result.mask.tolist() == [
        [True, False, False, False],
        [True, True, False, False],
    ]
    assert result.status == [ThresholdStatus.INSUFFICIENT_SUPPORT, ThresholdStatus.OK]
    assert result.achieved.tolist() == [0.25, 0.5]
    assert result.cut.tolist() == [5.0, 3.0]
    assert result.energy_retained.tolist() == [1.0, 7 / 9]


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ([0.0, 0.0, 0.0], ThresholdStatus.CONSTANT_MAP),
        ([0.3, 0.3, 0.3], ThresholdStatus.CONSTANT_MAP),
        ([-0.3, -0.3, -0.3], ThresholdStatus.CONSTANT_MAP),
        ([-0.3, -0.2, 0.0], ThresholdStatus.INSUFFICIENT_SUPPORT),
        ([0.3, math.nan, 0.1], ThresholdStatus.NON_FINITE),
        ([math.nan] * 3, ThresholdStatus.NON_FINITE),
        ([0.3, math.inf, 0.1], ThresholdStatus.NON_FINITE),
        ([0.3, -math.inf, 0.1], ThresholdStatus.NON_FINITE),
    ],
)
def test_a_map_that_shows_nothing_keeps_nothing(
    row: list[float], status: ThresholdStatus
) -> None:
    """Zero, constant and broken maps get a status, an empty mask and no NaN."""
    maps = torch.tensor([row, [1.0, 3.0, 2.0]])
    result = FixedKeep(0.3).apply(maps)
    assert result.status == [status, ThresholdStatus.OK]
    assert result.mask.tolist() == [[False] * 3, [False, True, False]]
    assert result.cut.tolist() == [0.0, 3.0]
    assert result.achieved.tolist() == [0.0, 1 / 3]
    assert result.energy_retained.tolist() == [0.0, 0.5]
    assert not numpy_maps.fixed_keep_mask(maps.numpy(), 0.3)[0].any()


def test_a_single_pixel_is_constant() -> None:
    """One position cannot stand out."""
    result = FixedKeep(1.0).apply(torch.ones(2, 1, 1))
    assert result.status == [ThresholdStatus.CONSTANT_MAP] * 2


@pytest.mark.parametrize("shape", [(2, 20), (2, 4, 5), (2, 2, 2, 5)])
def test_positions_may_have_any_shape(shape: tuple[int, ...]) -> None:
    """Tokens, pixels and volumes are thresholded alike, in index order."""
    maps = tie_free(2, 20, 1)
    expected = FixedKeep(0.2).apply(maps).mask
    result = FixedKeep(0.2).apply(maps.reshape(shape))
    assert result.mask.shape == shape
    assert torch.equal(result.mask.flatten(1), expected)


def test_the_callers_maps_are_not_changed() -> None:
    """Thresholding reads."""
    maps = torch.tensor([[1.0, math.nan, -2.0]])
    before = maps.clone()
    FixedKeep(0.5).apply(maps)
    assert torch.equal(maps.nan_to_num(9.0), before.nan_to_num(9.0))


def test_an_empty_batch_gives_an_empty_result() -> None:
    """No maps, no masks, no error."""
    result = FixedKeep(0.5).apply(torch.zeros(0, 4, 4))
    assert result.mask.shape == (0, 4, 4)
    assert result.status == []


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.5, 10, math.nan, math.inf])
def test_a_fraction_out_of_range_is_refused(keep: float) -> None:
    """10 does not pass for 10 %."""
    with pytest.raises(InvalidParameterError, match="fraction above 0 and up to 1"):
        FixedKeep(keep)


@pytest.mark.parametrize(
    "maps", [torch.zeros(4), torch.zeros(2, 0), torch.zeros(2, 4).double()]
)
def test_what_are_no_maps_is_refused(maps: Tensor) -> None:
    """A missing axis, no positions or another type is an error."""
    with pytest.raises(InvalidInputError, match="Expected float32 maps"):
        FixedKeep(0.5).apply(maps)


def test_a_cut_for_each_map_is_demanded() -> None:
    """A cut that would be broadcast over a batch is an error."""
    with pytest.raises(InvalidInputError, match="one cut and one count"):
        mask_from_cut(torch.zeros(3, 4), torch.zeros(1), torch.zeros(1).long())


def test_policies_are_created_by_name() -> None:
    """Every card has its policy, under the same name."""
    policy = create_policy("fixed", keep=0.2)
    assert policy == FixedKeep(0.2)
    for name, card in POLICIES.items():
        if all(one.default is not None for one in card.parameters.values()):
            assert create_policy(name).name == name
    assert create_policy("absolute", value=1.0).name == "absolute"


def test_an_unknown_policy_names_the_nearest() -> None:
    """A misspelt name is answered with the right one."""
    with pytest.raises(UnknownNameError, match="Did you mean 'fixed'"):
        create_policy("fxed", keep=0.1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kep": 0.1}, "has no parameter 'kep'; did you mean 'keep'"),
        ({"keep": 0.1, "tau": 1.0}, "has no parameter 'tau'; it takes keep"),
        ({"keep": "much"}, "expected keep to be a number above 0 and up to 1"),
        ({"keep": 0.0}, "got 0.0"),
        ({"keep": True}, "got True"),
    ],
)
def test_parameters_must_be_those_of_the_policy(
    parameters: dict[str, Any], message: str
) -> None:
    """An unknown parameter, or one out of range, is named and not ignored."""
    with pytest.raises(InvalidParameterError, match=message):
        create_policy("fixed", **parameters)


def test_a_parameter_that_is_not_given_has_its_default() -> None:
    """None counts as not given, as an absent key of a spec does."""
    assert create_policy("fixed") == create_policy("fixed", keep=None) == FixedKeep(0.1)

# SPDX-License-Identifier: Apache-2.0
"""Rules that cut a map at a value keep exactly what their definition says."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from explain import numpy_maps
from explain.errors import InvalidParameterError, MissingContextError
from explain.maps import energy_retained
from explain.thresholds import (
    FixedKeep,
    ThresholdContext,
    ThresholdPolicy,
    ThresholdStatus,
    create_policy,
    mask_from_cut,
)

#: Every rule that needs no more than the map, with other than default values too.
CUT_RULES: list[tuple[str, dict[str, Any]]] = [
    ("fixed", {"keep": 0.3}),
    ("absolute", {"value": 1.5}),
    ("absolute", {"value": 1.5, "floor": 0.25}),
    ("relative", {}),
    ("relative", {"fraction": 1.0, "floor": 0.2}),
    ("otsu", {}),
    ("otsu", {"floor": 0.6}),
    ("mass", {}),
    ("mass", {"tau": 1.0}),
    ("dynamic", {}),
    ("dynamic", {"tau": 0.01, "floor": 0.3}),
    ("hybrid", {}),
    ("multi_level", {}),
]
rules = pytest.mark.parametrize(("name", "parameters"), CUT_RULES)
coarse = st.lists(
    st.lists(st.integers(-2, 4), min_size=12, max_size=12), min_size=1, max_size=5
)


def policy_of(name: str, parameters: dict[str, Any]) -> ThresholdPolicy:
    """Return the policy of one row of the table."""
    return create_policy(name, **parameters)


def first_by_rank(row: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Return the mask of so many positions, by value and then by index."""
    mask = np.zeros(row.shape, dtype=bool)
    mask[np.argsort(-row, kind="stable")[:count]] = True
    return mask


@rules
@settings(max_examples=20, deadline=None)
@given(rows=coarse)
def test_what_every_cut_holds(
    name: str, parameters: dict[str, Any], rows: list[list[int]]
) -> None:
    """Count, cut, energy and fraction are those of the mask; zeros are never kept.

    The mask is the first positions in order, so that cut and count rebuild it bit
    for bit, without torch too.
    """
    maps = torch.tensor(rows, dtype=torch.float32)
    policy = policy_of(name, parameters)
    assert policy.cut_based
    result = policy.apply(maps)
    assert torch.equal(result.mask.sum(dim=1), result.kept)
    assert torch.equal(result.achieved, result.kept.double() / 12)
    assert not bool((result.mask & (maps <= 0)).any())
    energy = energy_retained(maps, result.mask)
    assert torch.allclose(result.energy_retained, energy, rtol=1e-14, atol=0)
    for item, row in enumerate(maps):
        expected = first_by_rank(row.numpy(), int(result.kept[item]))
        assert np.array_equal(result.mask[item].numpy(), expected)
        smallest = row[result.mask[item]].min() if expected.any() else torch.tensor(0)
        assert float(result.cut[item]) == float(smallest)
    assert torch.equal(mask_from_cut(maps, result.cut, result.kept), result.mask)
    rebuilt = numpy_maps.mask_from_cut(
        maps.numpy(), result.cut.numpy(), result.kept.numpy()
    )
    assert np.array_equal(rebuilt, result.mask.numpy())


@rules
@settings(max_examples=12, deadline=None)
@given(rows=coarse, random=st.randoms(use_true_random=False))
def test_items_keep_their_result_in_any_company(
    name: str, parameters: dict[str, Any], rows: list[list[int]], random: Any
) -> None:
    """Permuting a batch, or asking for an item alone, changes no bit of a result."""
    maps = torch.tensor(rows, dtype=torch.float32) / 3
    policy = policy_of(name, parameters)
    order = list(range(len(rows)))
    random.shuffle(order)
    whole = policy.apply(maps)
    for picked in (order, [0]):
        other = policy.apply(maps[picked])
        for field in ("mask", "cut", "kept", "requested", "energy_retained", "codes"):
            assert torch.equal(getattr(other, field), getattr(whole, field)[picked])


@rules
@pytest.mark.parametrize(
    ("row", "status"),
    [
        ([0.0] * 4, ThresholdStatus.CONSTANT_MAP),
        ([2.0] * 4, ThresholdStatus.CONSTANT_MAP),
        ([-3.0, -2.0, -1.0, 0.0], ThresholdStatus.INSUFFICIENT_SUPPORT),
        ([2.0, math.nan, 0.1, 0.0], ThresholdStatus.NON_FINITE),
        ([2.0, math.inf, 0.1, 0.0], ThresholdStatus.NON_FINITE),
        ([2.0, -math.inf, 0.1, 0.0], ThresholdStatus.NON_FINITE),
    ],
)
def test_maps_that_show_nothing_keep_nothing(
    name: str, parameters: dict[str, Any], row: list[float], status: ThresholdStatus
) -> None:
    """They get a status and zeros, and their neighbours do not notice."""
    policy = policy_of(name, parameters)
    sound = [4.0, 0.5, 1.0, 2.0]
    result = policy.apply(torch.tensor([row, sound]))
    assert result.status[0] == status
    assert not result.mask[0].any()
    assert float(result.cut[0]) == float(result.energy_retained[0]) == 0.0
    assert int(result.kept[0]) == 0
    assert bool(torch.isfinite(result.requested).all())
    alone = policy.apply(torch.tensor([sound]))
    assert torch.equal(result.mask[1:], alone.mask)
    assert result.status[1:] == alone.status


@rules
def test_single_positions_and_empty_batches(
    name: str, parameters: dict[str, Any]
) -> None:
    """One position cannot stand out; no items are no error."""
    policy = policy_of(name, parameters)
    assert (
        policy.apply(torch.ones(2, 1, 1)).status == [ThresholdStatus.CONSTANT_MAP] * 2
    )
    assert policy.apply(torch.zeros(0, 4, 4)).mask.shape == (0, 4, 4)


@rules
def test_no_cut_waits_for_a_device(name: str, parameters: dict[str, Any]) -> None:
    """On tensors without data every read would fail: none is made."""
    policy = policy_of(name, parameters)
    result = policy.apply(torch.zeros(3, 6, 5, device="meta"))
    assert result.mask.shape == (3, 6, 5)
    assert result.codes.device.type == "meta"


def test_conditional_rules_do_not_wait_either() -> None:
    """Fractions by probability and by picture are found on the device."""
    context = ThresholdContext(
        probabilities=torch.zeros(3, device="meta"),
        images=torch.zeros(3, 3, 6, 5, device="meta"),
    )
    for name in ("confidence", "adaptive"):
        result = create_policy(name).apply(torch.zeros(3, 6, 5, device="meta"), context)
        assert result.mask.shape == (3, 6, 5)


@pytest.mark.parametrize("shape", [(2, 20), (2, 4, 5), (2, 2, 2, 5)])
@pytest.mark.parametrize("name", ["relative", "otsu", "mass", "dynamic", "multi_level"])
def test_positions_of_any_shape(name: str, shape: tuple[int, ...]) -> None:
    """Tokens, pixels and volumes are cut alike."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(2, 20, generator=generator)
    expected = create_policy(name).apply(maps)
    result = create_policy(name).apply(maps.reshape(shape))
    assert torch.equal(result.mask.flatten(1), expected.mask)
    assert result.mask.shape == shape


@settings(max_examples=60, deadline=None)
@given(rows=coarse)
def test_otsu_is_that_of_every_distinct_value(rows: list[list[int]]) -> None:
    """R14: scikit-image's Otsu gives the same mask when every value is its own bin."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skimage.filters import threshold_otsu
    maps = torch.tensor(rows, dtype=torch.float32)
    result = create_policy("otsu").apply(maps)
    for item, row in enumerate(maps.clamp(min=0).numpy()):
        if result.status[item] != ThresholdStatus.OK:
            continue
        values, counts = np.unique(row, return_counts=True)
        cut = threshold_otsu(hist=(counts, values))
        assert np.array_equal(result.mask[item].numpy(), row > cut)


def test_otsu_of_floats_equals_the_slow_definition() -> None:
    """On 400 distinct values, the cut is the one of greatest between-class variance.

    With 256 bins, as the usual form has, the count differs.
    """
    generator = np.random.default_rng(5)
    row = np.concatenate([generator.normal(1, 0.1, 300), generator.normal(2, 0.4, 100)])
    row = row.astype(np.float32)

    def between(cut: float) -> float:
        high, low = row[row > cut].astype(float), row[row <= cut].astype(float)
        return float(len(high) * len(low) * (high.mean() - low.mean()) ** 2)

    cuts = np.unique(row)[:-1]
    best = cuts[np.argmax([between(cut) for cut in cuts])]
    result = create_policy("otsu").apply(torch.from_numpy(row)[None])
    assert np.array_equal(result.mask[0].numpy(), row > best)


@settings(max_examples=60, deadline=None)
@given(rows=coarse, tau=st.sampled_from([0.01, 0.2, 0.5, 0.77, 1.0]))
def test_mass_is_the_smallest_that_suffices(rows: list[list[int]], tau: float) -> None:
    """The mask holds tau of the mass, and without its last position would not."""
    maps = torch.tensor(rows, dtype=torch.float32)
    for name in ("mass", "dynamic"):
        result = create_policy(name, tau=tau).apply(maps)
        for item, row in enumerate(maps.double()):
            if result.status[item] != ThresholdStatus.OK:
                continue
            kept = row[result.mask[item]]
            goal = tau * row.clamp(min=0).sum()
            assert kept.sum() >= goal
            assert kept.sum() - kept.min() < goal


def test_values_and_fractions_of_the_maximum() -> None:
    """At least, not above: what equals the value is kept."""
    maps = torch.tensor([[4.0, 2.0, 1.0, 0.0, -1.0], [8.0, 4.0, 3.9, 4.0, 0.0]])
    absolute = create_policy("absolute", value=2.0).apply(maps)
    assert absolute.kept.tolist() == [2, 4]
    relative = create_policy("relative", fraction=0.5).apply(maps)
    assert relative.kept.tolist() == [2, 3]
    assert relative.cut.tolist() == [2.0, 4.0]
    assert relative.requested.tolist() == relative.achieved.tolist() == [0.4, 0.6]


def test_a_value_that_nothing_reaches_is_said() -> None:
    """The mask is empty and the status is not ok."""
    result = create_policy("absolute", value=9.0).apply(torch.tensor([[1.0, 2.0]]))
    assert result.status == [ThresholdStatus.INSUFFICIENT_SUPPORT]
    assert result.requested.tolist() == result.achieved.tolist() == [0.0]


def test_the_coverage_floor_adds_the_next_positions() -> None:
    """At least the floor is kept where support suffices, and said where not."""
    maps = torch.tensor([[9.0, 4.0, 3.0, 2.0], [9.0, 4.0, 0.0, 0.0]])
    result = create_policy("relative", fraction=0.9, floor=0.75).apply(maps)
    assert result.kept.tolist() == [3, 2]
    assert result.requested.tolist() == [0.75, 0.75]
    assert result.status == [
        ThresholdStatus.OK, ThresholdStatus.INSUFFICIENT_SUPPORT,
    ]  # fmt: skip


def test_levels_are_the_fixed_masks() -> None:
    """Each level is described like its own fixed policy; the main one is the mask."""
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(3, 10, 10, generator=generator).sub(0.8)
    result = create_policy("multi_level", levels=[0.5, 0.05, 0.2], main=0.2).apply(maps)
    main = FixedKeep(0.2).apply(maps)
    assert torch.equal(result.mask, main.mask)
    assert torch.equal(result.requested, main.requested)
    assert result.levels is not None
    assert result.levels.requested.tolist() == [0.05, 0.2, 0.5]
    for place, level in enumerate(result.levels.requested.tolist()):
        single = FixedKeep(level).apply(maps)
        assert torch.equal(result.levels.kept[:, place], single.kept)
        assert torch.equal(result.levels.cut[:, place], single.cut)
        assert torch.equal(result.levels.achieved[:, place], single.achieved)
        rebuilt = mask_from_cut(
            maps, result.levels.cut[:, place], result.levels.kept[:, place]
        )
        assert torch.equal(rebuilt, single.mask)
        assert torch.allclose(
            result.levels.energy_retained[:, place],
            single.energy_retained,
            rtol=1e-14,
            atol=0,
        )


def test_the_main_level_must_be_one() -> None:
    """A main level that is not computed is an error, and says which there are."""
    with pytest.raises(InvalidParameterError, match=r"one of the levels 0.05, 0.2"):
        create_policy("multi_level", levels=(0.05, 0.2))


def test_tiny_magnitudes_are_cut_like_large_ones() -> None:
    """A map scaled by 1e-30 has the same mask under every scale-free rule."""
    generator = torch.Generator().manual_seed(8)
    maps = torch.randint(1, 2**20, (2, 50), generator=generator).float()
    for name in ("relative", "otsu", "mass", "dynamic", "multi_level", "hybrid"):
        large = create_policy(name).apply(maps)
        small = create_policy(name).apply(maps * 2.0**-100)
        assert torch.equal(large.mask, small.mask)


def test_less_confident_items_keep_more() -> None:
    """The fraction falls with the probability, item by item."""
    maps = torch.arange(1.0, 101.0).repeat(4, 1)
    probabilities = torch.tensor([1.0, 0.6, 0.0, math.nan], dtype=torch.float64)
    result = create_policy("confidence").apply(
        maps, ThresholdContext(probabilities=probabilities)
    )
    assert result.kept.tolist() == [5, 15, 30, 30]
    assert result.requested[1] == pytest.approx(0.05 + 0.25 * 0.4)
    with pytest.raises(MissingContextError, match="needs to know probabilities"):
        create_policy("confidence").apply(maps)


def test_the_fractions_must_be_in_order() -> None:
    """More at least than at most is an error."""
    with pytest.raises(InvalidParameterError, match="keep_min <= keep_max"):
        create_policy("confidence", keep_min=0.5, keep_max=0.2)


def pictures() -> Tensor:
    """A white one, one of vertical stripes, and noise, (3, 3, 16, 16)."""
    generator = torch.Generator().manual_seed(0)
    stripes = torch.zeros(3, 16, 16)
    stripes[..., ::4] = 1.0
    noise = torch.rand(3, 16, 16, generator=generator)
    return torch.stack([torch.ones(3, 16, 16), stripes, noise])


def test_busy_pictures_keep_more() -> None:
    """A blank picture gets the least fraction; the rule's inputs equal oracles.

    Entropy is scikit-image's of the grey levels; edges are where its Sobel filter,
    undone of its division by the root of 2, exceeds the size.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skimage.filters import sobel
        from skimage.measure import shannon_entropy
    from explain.thresholds.content import edge_density, entropy, grey

    levels = grey(pictures())
    steps = (levels * 255).round().numpy().astype(np.uint8)
    expected = [shannon_entropy(step) / 8 for step in steps]
    assert entropy(levels).tolist() == pytest.approx(expected, abs=1e-12)
    for size in (0.1, 0.3):
        strong = [
            float((sobel(level, mode="nearest") * math.sqrt(2) > size).mean())
            for level in levels.numpy().astype(np.float64)
        ]
        assert edge_density(levels, size).tolist() == pytest.approx(strong)
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(3, 16, 16, generator=generator)
    result = create_policy("adaptive").apply(maps, ThresholdContext(images=pictures()))
    assert result.kept[0] == math.ceil(0.05 * 256)
    busy = (entropy(levels) + edge_density(levels, 0.1)) / 2
    assert torch.allclose(result.requested, 0.05 + 0.25 * busy)
    assert result.kept[0] < result.kept[1] < result.kept[2]

# SPDX-License-Identifier: Apache-2.0
"""Rules that look at neighbours keep whole parts, blocks and regions."""

import math
import warnings
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from explain.errors import InvalidInputError, InvalidParameterError, MissingContextError
from explain.maps import energy_retained
from explain.thresholds import ThresholdContext, ThresholdStatus, create_policy
from explain.thresholds.peaks import grown_parts, parts_around, peaks

SHAPED = ("multi_peak", "driving", "medical", "documents", "satellite")
grids = st.lists(st.integers(-1, 6), min_size=35, max_size=35)


def slow_peaks(row: Tensor, beta: float, gamma: float, radius: int) -> Tensor:
    """Return the parts around peaks by looking around and flooding from each."""
    height, width = row.shape
    values = row.tolist()
    mask = torch.zeros(height, width, dtype=torch.bool)
    top = max(max(line) for line in values)
    for y in range(height):
        for x in range(width):
            around = [
                values[j][i]
                for j in range(max(0, y - radius), min(height, y + radius + 1))
                for i in range(max(0, x - radius), min(width, x + radius + 1))
            ]
            if values[y][x] <= 0 or values[y][x] < max(around):
                continue
            if values[y][x] >= beta * top:
                _flood(mask, values, (y, x), gamma * values[y][x])
    return mask


def _flood(mask: Tensor, values: Any, start: tuple[int, int], level: float) -> None:
    seen, queue = {start}, deque([start])
    while queue:
        y, x = queue.popleft()
        mask[y, x] = True
        for j in range(max(0, y - 1), min(len(values), y + 2)):
            for i in range(max(0, x - 1), min(len(values[0]), x + 2)):
                if (j, i) not in seen and values[j][i] >= level and values[j][i] > 0:
                    seen.add((j, i))
                    queue.append((j, i))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(grids, min_size=1, max_size=3))
def test_parts_around_peaks_equal_flooding(rows: list[list[int]]) -> None:
    """Each peak brings its own connected part; both ways to find it agree."""
    maps = torch.tensor(rows, dtype=torch.float32).view(-1, 5, 7)
    result = create_policy("multi_peak", gamma=0.75, distance=0.2).apply(maps)
    for item, row in enumerate(maps):
        if result.status[item] == ThresholdStatus.OK:
            assert torch.equal(result.mask[item], slow_peaks(row, 0.5, 0.75, 1))
        else:
            assert not result.mask[item].any()
    tops = peaks(maps, maps.flatten(1).amax(dim=1) * 0.5, 1)
    assert torch.equal(grown_parts(maps, tops, 0.75), parts_around(maps, tops, 0.75))


def hills(*tops: tuple[float, int, int], size: int = 40) -> Tensor:
    """Return a map of smooth hills (height, row, column), (1, size, size)."""
    rows = torch.arange(size, dtype=torch.float32)
    total = torch.zeros(size, size)
    for height, row, column in tops:
        far = (rows[:, None] - row).square() + (rows - column).square()
        total += height * torch.exp(-far / 8)
    return total.clamp(min=1e-3)[None] - 1e-3


def test_a_second_peak_stays_and_stays_apart() -> None:
    """A weaker object is neither dropped nor joined, where one cut would drop it."""
    maps = hills((1.0, 10, 10), (0.55, 30, 30))
    one = create_policy("relative", fraction=0.6).apply(maps)
    assert not one.mask[0, 30, 30]
    both = create_policy("multi_peak").apply(maps)
    assert both.mask[0, 10, 10]
    assert both.mask[0, 30, 30]
    assert not both.mask[0, 20, 20]


def test_driving_keeps_small_distant_peaks() -> None:
    """A peak of a quarter of the maximum stays; multi_peak would leave it."""
    maps = hills((1.0, 30, 12), (0.25, 6, 30))
    assert not create_policy("multi_peak").apply(maps).mask[0, 6, 30]
    assert create_policy("driving").apply(maps).mask[0, 6, 30]


def test_medical_drops_no_part_above_the_floor_and_closes_holes() -> None:
    """Specks go, parts of the least area stay, a ring becomes a disc."""
    maps = torch.full((1, 20, 20), 0.01)
    maps[0, 2:7, 2:7] = 1.0
    maps[0, 4, 4] = 0.0
    maps[0, 12:14, 12:14] = 0.4
    maps[0, 18, 18] = 0.9
    result = create_policy("medical", area=0.01).apply(maps)
    expected = torch.zeros(20, 20, dtype=torch.bool)
    expected[2:7, 2:7] = expected[12:14, 12:14] = True
    assert torch.equal(result.mask[0], expected)
    assert float(result.cut[0]) == 0.0
    assert int(result.kept[0]) == 29
    speck = create_policy("medical", area=0.5).apply(maps)
    expected[12:14, 12:14] = False
    assert torch.equal(speck.mask[0], expected)
    assert speck.status == [ThresholdStatus.OK]


def test_a_hole_that_is_open_at_a_corner_is_closed_too() -> None:
    """Kept positions touch at corners, so that a diamond is a ring."""
    maps = torch.zeros(1, 7, 7)
    for row, column in ((1, 3), (2, 2), (2, 4), (3, 1), (3, 5), (4, 2), (4, 4), (5, 3)):
        maps[0, row, column] = 1.0
    assert create_policy("medical").apply(maps).mask[0, 3, 3]


def test_satellite_keeps_many_small_parts() -> None:
    """Parts from the least area stay, courtyards stay open, single specks go."""
    maps = torch.zeros(1, 100, 100)
    maps[0, 5:95:10, 5:95:10] = 0.8
    maps[0, 6:96:10, 5:95:10] = 0.8
    maps[0, 50, 58] = 1.0
    result = create_policy("satellite", area=0.0002).apply(maps)
    assert int(result.kept[0]) == 9 * 9 * 2
    assert not result.mask[0, 50, 58]
    ring = torch.ones(1, 5, 5)
    ring[0, 2, 2] = 0.1
    assert not create_policy("satellite").apply(ring).mask[0, 2, 2]


def test_documents_keep_upright_blocks() -> None:
    """Words of a line become one block; a far column stays apart."""
    maps = torch.zeros(1, 20, 50)
    maps[0, 4, 5:10] = maps[0, 5, 12:18] = 1.0
    maps[0, 4, 12] = 0.7
    maps[0, 15, 40:45] = 0.6
    result = create_policy("documents", gap=0.04).apply(maps)
    expected = torch.zeros(20, 50, dtype=torch.bool)
    expected[4:6, 5:18] = expected[15, 40:45] = True
    assert torch.equal(result.mask[0], expected)
    apart = create_policy("documents", gap=0.0).apply(maps)
    assert not apart.mask[0, 4, 10:12].any()


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize(
    ("value", "status"),
    [
        (0.0, ThresholdStatus.CONSTANT_MAP),
        (3.0, ThresholdStatus.CONSTANT_MAP),
        (math.nan, ThresholdStatus.NON_FINITE),
        (math.inf, ThresholdStatus.NON_FINITE),
    ],
)
def test_maps_that_show_nothing_keep_nothing(
    name: str, value: float, status: ThresholdStatus
) -> None:
    """They get a status and zeros; numbers describe the mask of every other map."""
    maps = torch.cat([hills((1.0, 8, 8), (0.7, 30, 30))] * 3)
    maps[0] = value
    maps[1] *= -1
    policy = create_policy(name)
    assert not policy.cut_based
    result = policy.apply(maps)
    assert result.status == [
        status, ThresholdStatus.INSUFFICIENT_SUPPORT, ThresholdStatus.OK,
    ]  # fmt: skip
    assert result.kept[:2].tolist() == [0, 0]
    assert result.energy_retained[:2].tolist() == result.cut[:2].tolist() == [0, 0]
    mask = result.mask[2]
    assert int(result.kept[2]) == int(mask.sum()) > 0
    assert float(result.cut[2]) == float(maps[2][mask].min())
    assert float(result.achieved[2]) == float(mask.double().mean())
    assert torch.allclose(
        result.energy_retained[2:], energy_retained(maps[2:], result.mask[2:])
    )
    alone = policy.apply(maps[2:])
    assert torch.equal(alone.mask, result.mask[2:])


@pytest.mark.parametrize("name", SHAPED)
def test_shapes_of_maps(name: str) -> None:
    """Sequences are one row; volumes are refused; no items and one pixel are fine."""
    policy = create_policy(name)
    steps = torch.tensor([[0.0, 0.0, 5.0, 4.0, 0.0, 0.0, 3.5, 0.0]])
    result = policy.apply(steps)
    assert result.mask.shape == (1, 8)
    assert bool(result.mask[0, 2:4].all())
    with pytest.raises(InvalidInputError, match="looks at neighbours"):
        policy.apply(torch.rand(1, 3, 3, 3))
    assert policy.apply(torch.zeros(0, 5, 5)).mask.shape == (0, 5, 5)
    assert policy.apply(torch.ones(1, 1, 1)).status == [ThresholdStatus.CONSTANT_MAP]


def quarters() -> Tensor:
    """Return a segmentation of four equal squares and one label in two places."""
    regions = torch.zeros(1, 8, 8, dtype=torch.int64)
    regions[0, :4, 4:] = 7
    regions[0, 4:, :4] = 7
    regions[0, 4:, 4:] = 2
    return regions


def test_whole_regions_are_kept() -> None:
    """The best region comes whole, zeros inside included; a far one of it does not."""
    maps = torch.zeros(1, 8, 8)
    maps[0, :4, :4] = torch.arange(16.0).view(4, 4)
    maps[0, 5, 5] = 15.0
    context = ThresholdContext(regions=quarters())
    policy = create_policy("semantic", segments="given", keep=0.1)
    result = policy.apply(maps, context)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:4, :4] = True
    assert torch.equal(result.mask[0], expected)
    assert result.requested.tolist() == [0.1]
    assert result.achieved.tolist() == [0.25]
    # The second region has an eighth of the best one's mean.
    loose = create_policy("semantic", segments="given", keep=0.1, gamma=0.1)
    expected[4:, 4:] = True
    assert torch.equal(loose.apply(maps, context).mask[0], expected)


def test_a_label_in_two_places_is_two_regions() -> None:
    """Equal labels that do not touch along a side are judged apart."""
    maps = torch.zeros(1, 8, 8)
    maps[0, :4, 4:] = 1.0
    result = create_policy("semantic", segments="given").apply(
        maps, ThresholdContext(regions=quarters())
    )
    assert bool(result.mask[0, :4, 4:].all())
    assert int(result.kept[0]) == 16


def test_regions_until_their_mass_suffices() -> None:
    """By mass, regions are added until they hold tau of it."""
    maps = torch.zeros(1, 8, 8)
    maps[0, :4, :4], maps[0, :4, 4:], maps[0, 4:, 4:] = 6.0, 2.0, 1.0
    context = ThresholdContext(regions=quarters())
    for tau, kept in ((0.5, 16), (0.7, 32), (0.95, 48)):
        policy = create_policy("semantic", segments="given", by="mass", tau=tau)
        assert policy.apply(maps, context).kept.tolist() == [kept]


@pytest.mark.parametrize("segments", ["slic", "felzenszwalb"])
def test_superpixels_end_where_objects_do(segments: str) -> None:
    """A blunt map over two sharp squares gives the squares, and both of them."""
    images = torch.zeros(1, 3, 48, 48)
    images[0, :, 6:18, 6:18] = 1.0
    images[0, 0, 30:42, 30:42] = 0.9
    maps = hills((1.0, 11, 11), (0.9, 35, 35), size=48)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        policy = create_policy("semantic", segments=segments, regions=30, keep=0.05)
        result = policy.apply(maps, ThresholdContext(images=images))
    objects = images[0].amax(dim=0) > 0
    assert bool(result.mask[0, 10:13, 10:13].all())
    assert bool(result.mask[0, 34:37, 34:37].all())
    outside = result.mask[0] & ~objects
    assert float(outside.sum()) < 0.25 * float(result.kept[0])


def test_what_semantic_needs_is_demanded() -> None:
    """Pictures or regions must be there, of the maps' size."""
    maps = torch.rand(1, 8, 8)
    with pytest.raises(MissingContextError, match="needs to know images"):
        create_policy("semantic").apply(maps)
    with pytest.raises(MissingContextError, match="needs to know regions"):
        create_policy("semantic", segments="given").apply(maps)
    with pytest.raises(InvalidInputError, match="of the size of the maps"):
        create_policy("semantic").apply(
            maps, ThresholdContext(images=torch.rand(1, 3, 9, 8))
        )
    with pytest.raises(InvalidInputError, match="regions of the maps' shape"):
        create_policy("semantic", segments="given").apply(
            maps, ThresholdContext(regions=quarters()[:, :4])
        )
    with pytest.raises(InvalidParameterError, match="segments to be one of slic"):
        create_policy("semantic", segments="watershed")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scipy the error says what to install."""
    from explain.thresholds import components

    def absent(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(components, "import_module", absent)
    with pytest.raises(InvalidParameterError, match="install scikit-image"):
        create_policy("medical").apply(torch.rand(1, 5, 5))


def test_masks_are_numpy_free_of_the_callers_memory() -> None:
    """The maps and images are read, never changed."""
    maps = hills((1.0, 8, 8))
    before = maps.clone()
    for name in SHAPED:
        create_policy(name).apply(maps)
    assert np.array_equal(maps.numpy(), before.numpy())

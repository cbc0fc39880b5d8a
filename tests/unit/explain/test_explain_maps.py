# SPDX-License-Identifier: Apache-2.0
"""Maps as stored, read back and upsampled, with torch and without."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from explain import numpy_maps
from explain.errors import InvalidInputError
from explain.maps import (
    StoredMaps,
    dequantise,
    energy_retained,
    pool_to_grid,
    quantise,
    upsample,
)


def random_maps(count: int, height: int = 7, width: int = 7, seed: int = 0) -> Tensor:
    """Return seeded maps in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, height, width, generator=generator)


# Storing


@pytest.mark.parametrize("magnitude", [1e-30, 1e-15, 1.0, 1e20])
def test_stored_maps_keep_three_digits_at_any_magnitude(magnitude: float) -> None:
    """float16 relative to a scale keeps 11 bits, however small the raw map is."""
    maps = (random_maps(5) + 0.01) * magnitude
    stored = quantise(maps)
    assert stored.values.dtype == torch.float16
    assert stored.scale.dtype == torch.float32
    assert float(stored.values.abs().max()) == 1.0
    error = (dequantise(stored) - maps).abs() / maps
    assert float(error.max()) <= 2**-11 + 1e-6


def test_signed_maps_keep_their_sign() -> None:
    """The scale is a magnitude, so the values reach from -1 to 1."""
    stored = quantise(torch.tensor([[[-4.0, 2.0]], [[1.0, -0.5]]]))
    assert stored.values.tolist() == [[[-1.0, 0.5]], [[1.0, -0.5]]]
    assert stored.scale.tolist() == [4.0, 1.0]


def test_a_zero_map_is_stored_as_zero() -> None:
    """No division by zero: scale and values are 0, and 0 comes back."""
    stored = quantise(torch.zeros(1, 2, 2))
    assert stored.scale.tolist() == [0.0]
    assert dequantise(stored).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_map_is_stored_as_nothing_but_nan(bad: float) -> None:
    """One bad value spoils its own map, visibly, and no other."""
    maps = torch.ones(2, 2, 2)
    maps[0, 1, 1] = bad
    stored = quantise(maps)
    assert bool(stored.values[0].isnan().all())
    assert bool(stored.scale[0].isnan())
    assert dequantise(stored)[1].tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_storing_twice_changes_nothing_more() -> None:
    """What was read back is stored as the same values again."""
    once = quantise(random_maps(4))
    again = quantise(dequantise(once))
    assert torch.equal(again.values, once.values)
    assert torch.equal(again.scale, once.scale)


# Upsampling


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((7, 7), (224, 224)),
        ((14, 14), (224, 224)),
        ((5, 9), (160, 288)),
        ((7, 7), (7, 7)),
        ((1, 1), (4, 6)),
        ((1, 8), (16, 64)),
        ((28, 28), (14, 7)),
        ((7, 7), (299, 211)),
    ],
)
def test_upsampling_is_bilinear_with_half_pixel_centres(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    """The result is torch's own (align_corners=False), up and down, square or not."""
    maps = random_maps(3, *source)
    expected = interpolate(
        maps[:, None], size=target, mode="bilinear", align_corners=False
    )[:, 0]
    # torch rounds positions to float32 first, which shows at odd ratios.
    tolerance = 1e-6 if target[0] % source[0] == target[1] % source[1] == 0 else 2e-5
    assert float((upsample(maps, target) - expected).abs().max()) <= tolerance


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    source=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    target=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
def test_without_torch_the_bits_are_the_same(
    seed: int, source: tuple[int, int], target: tuple[int, int]
) -> None:
    """A stored map read back and upsampled with numpy has torch's bits."""
    stored = quantise(random_maps(2, *source, seed=seed) * 1e-12)
    native = numpy_maps.dequantise(stored.values.numpy(), stored.scale.numpy())
    assert np.array_equal(native, dequantise(stored).numpy())
    ours = numpy_maps.upsample(native, target)
    assert ours.dtype == np.float32
    assert np.array_equal(ours, upsample(dequantise(stored), target).numpy())


def test_a_constant_map_stays_exactly_constant() -> None:
    """Upsampling adds no rounding pattern that a threshold would then select."""
    upsampled = upsample(torch.full((1, 7, 7), 0.1), (224, 224))
    assert upsampled.unique().tolist() == [torch.tensor(0.1).item()]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([1e-20, 1.0, 1e10]))
def test_upsampling_stays_within_the_map(seed: int, scale: float) -> None:
    """No value below the least or noticeably above the greatest appears."""
    maps = random_maps(1, seed=seed) * scale
    upsampled = upsample(maps, (50, 50))
    assert float(upsampled.min()) >= float(maps.min()) * (1 - 1e-6)
    assert float(upsampled.max()) <= float(maps.max()) * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(7, 7), (2, 0, 7), (1, 1, 7, 7)])
def test_what_is_no_batch_of_maps_is_refused(shape: tuple[int, ...]) -> None:
    """A missing batch axis is an error on both sides."""
    with pytest.raises(InvalidInputError):
        upsample(torch.zeros(shape), (8, 8))
    with pytest.raises(InvalidInputError):
        numpy_maps.upsample(np.zeros(shape, dtype=np.float32), (8, 8))


def test_a_size_of_nothing_is_refused() -> None:
    """A target without pixels is an error on both sides."""
    with pytest.raises(InvalidInputError):
        upsample(torch.zeros(1, 2, 2), (0, 8))
    with pytest.raises(InvalidInputError):
        numpy_maps.upsample(np.zeros((1, 2, 2), dtype=np.float32), (0, 8))


def test_tensors_made_under_inference_mode_do_not_spoil_later_graphs() -> None:
    """Sampling positions cached by a caller in inference mode can be differentiated."""
    size = (13, 17)
    with torch.inference_mode():
        upsample(torch.zeros(1, 3, 4), size)
    maps = torch.rand(1, 3, 4, requires_grad=True)
    (maps * upsample(maps.detach(), size).mean()).sum().backward()
    assert maps.grad is not None


# Energy


def test_energy_is_the_positive_share_inside_the_mask() -> None:
    """Negative values count neither inside nor outside."""
    maps = torch.tensor([[3.0, 1.0, -2.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, False, True], [True, True, True]])
    assert energy_retained(maps, mask).tolist() == [0.75, 0.0]


# Without torch


def test_light_modules_load_without_torch(pytestconfig: pytest.Config) -> None:
    """Reports and verifiers read maps, cards and statistics without torch."""
    code = (
        "import sys\n"
        "import explain.numpy_maps, explain.statistics, explain.randomness\n"
        "import explain.errors\n"
        "from explain.metrics import METRICS, AbsenceReason\n"
        "from explain.methods import METHODS\n"
        "from explain.thresholds import POLICIES, ThresholdStatus\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=pytestconfig.rootpath
    )
    assert done.returncode == 0


def test_stored_maps_cannot_be_changed() -> None:
    """The stored form is a value."""
    stored = StoredMaps(torch.zeros(1, 1, 1).half(), torch.zeros(1))
    with pytest.raises(AttributeError):
        stored.scale = torch.ones(1)


# Pooling


@pytest.mark.parametrize(
    ("size", "grid"), [((224, 224), 14), ((30, 45), 7), ((13, 64), 32), ((5, 5), 1)]
)
def test_pooling_preserves_the_total(size: tuple[int, int], grid: int) -> None:
    """Cell means times the cell's area sum to what the map summed to."""
    maps = random_maps(3, *size) - 0.3
    pooled = pool_to_grid(maps, grid)
    rows, columns = min(grid, size[0]), min(grid, size[1])
    assert pooled.shape == (3, rows, columns)
    assert pooled.dtype == torch.float32
    area = size[0] * size[1] / (rows * columns)
    totals = pooled.double().sum(dim=(1, 2)) * area
    expected = maps.double().sum(dim=(1, 2))
    assert torch.allclose(totals, expected, rtol=1e-6, atol=0)


def test_pooling_is_average_pooling_where_cells_are_whole() -> None:
    """With a divisible side the cells are plain means of their pixels."""
    maps = random_maps(2, 28, 42)
    expected = avg_pool2d(maps.double()[:, None], (2, 3))[:, 0]
    assert torch.allclose(pool_to_grid(maps, 14).double(), expected, atol=1e-7)


def test_pooling_counts_parts_of_pixels() -> None:
    """Three pixels in two cells: the middle one counts half in each."""
    maps = torch.tensor([[[3.0, 6.0, 30.0]]])
    assert pool_to_grid(maps, 2).tolist() == [[[4.0, 22.0]]]


def test_a_map_smaller_than_the_grid_is_left_as_it_is() -> None:
    """Pooling never enlarges: the map comes back, bit for bit."""
    maps = random_maps(2, 7, 9)
    assert torch.equal(pool_to_grid(maps, 9), maps)
    assert torch.equal(pool_to_grid(maps, 100), maps)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_pooling_spoils_the_broken_map_alone(bad: float) -> None:
    """A map with NaN or infinity stays recognisable as broken; others stay whole."""
    maps = random_maps(2, 8, 8)
    maps[0, 3, 3] = bad
    pooled = pool_to_grid(maps, 4)
    assert not bool(pooled[0].isfinite().all())
    assert torch.equal(pooled[1], pool_to_grid(maps[1:], 4)[0])


def test_pooling_to_no_cell_is_refused() -> None:
    """A grid without cells is an error, as is a map without a batch axis."""
    with pytest.raises(InvalidInputError, match="at least 1 cell"):
        pool_to_grid(random_maps(1), 0)
    with pytest.raises(InvalidInputError, match="Expected maps"):
        pool_to_grid(random_maps(1)[0], 2)


def test_pooling_does_not_depend_on_neighbours() -> None:
    """The same map has the same bits at another place among other maps."""
    maps, others = random_maps(3, 37, 53), random_maps(3, 37, 53, seed=9)
    others[2] = maps[0]
    assert torch.equal(pool_to_grid(maps, 14)[0], pool_to_grid(others, 14)[2])

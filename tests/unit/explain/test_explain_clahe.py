# SPDX-License-Identifier: Apache-2.0
"""CLAHE: equal to its definition, near to scikit-image's, harmless to odd images."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from explain.remedies.clahe import equalised


def photographs(count: int, height: int, width: int) -> Tensor:
    """Return crops of a photograph, (count, 3, height, width) in [0, 1]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skimage import data
    pixels = torch.from_numpy(np.array(data.chelsea(), dtype=np.float32) / 255)
    crops = [
        pixels[40 + 20 * item :, 60 + 30 * item :][:height, :width]
        for item in range(count)
    ]
    return torch.stack(crops).permute(0, 3, 1, 2).contiguous()


def by_scikit_image(image: Tensor, clip: float) -> Tensor:
    """Return scikit-image's answer for one image (C, H, W)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skimage.exposure import equalize_adapthist

        pixels = image.permute(1, 2, 0).double().numpy()
        found = equalize_adapthist(pixels, clip_limit=clip, nbins=256)
    return torch.from_numpy(np.asarray(found)).permute(2, 0, 1).float()


@pytest.mark.parametrize("clip", [0.01, 0.03])
def test_is_near_to_scikit_image(clip: float) -> None:
    """Two grey levels apart on average, on a photograph of whole tiles.

    Its tiles start half a pixel earlier, its bins are 253, and its limit and what
    it hands out are whole pixels, so that the two agree on large tiles only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skimage import data
    pixels = np.array(data.astronaut(), dtype=np.float32) / 255
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    ours = equalised(image[None], clip)[0]
    apart = (ours - by_scikit_image(image, clip)).abs()
    assert float(apart.mean()) < 2 / 255
    assert float(apart.max()) < 0.06
    assert float((ours - image).abs().mean()) > 5 * float(apart.mean())


def slow_ranks(value: list[list[float]], clip: float, tiles: int) -> list[list[float]]:
    """Return the blended ranks by loops in double precision, from the definition."""
    height, width = len(value), len(value[0])
    flat = [cell for row in value for cell in row]
    low, high = min(flat), max(flat)
    bins = [
        [min(int((cell - low) / (high - low) * 256), 255) for cell in row]
        for row in value
    ]
    tables: dict[tuple[int, int], list[float]] = {}
    for down in range(tiles):
        for across in range(tiles):
            counts = [0.0] * 256
            for row in range(height):
                for column in range(width):
                    if (
                        int((row + 0.5) * tiles / height) == down
                        and int((column + 0.5) * tiles / width) == across
                    ):
                        counts[bins[row][column]] += 1
            tables[down, across] = slow_cumulated(counts, clip)

    def near(place: int, size: int) -> tuple[int, int, float]:
        centre = min(max((place + 0.5) * tiles / size - 0.5, 0), tiles - 1)
        first = int(centre)
        return first, min(first + 1, tiles - 1), centre - first

    found = []
    for row in range(height):
        top, bottom, down_blend = near(row, height)
        line = []
        for column in range(width):
            left, right, blend = near(column, width)
            bin_ = bins[row][column]
            above = (1 - blend) * tables[top, left][bin_]
            above += blend * tables[top, right][bin_]
            below = (1 - blend) * tables[bottom, left][bin_]
            below += blend * tables[bottom, right][bin_]
            line.append((1 - down_blend) * above + down_blend * below)
        found.append(line)
    return found


def slow_cumulated(counts: list[float], clip: float) -> list[float]:
    """Return cumulative shares, what is clipped handed out in rounds until none is."""
    total = sum(counts)
    limit = max(1.0, clip * total)
    kept = [min(count, limit) for count in counts]
    rest = total - sum(kept)
    while rest > 1e-9 and any(count < limit - 1e-12 for count in kept):
        open_bins = [b for b in range(256) if kept[b] < limit - 1e-12]
        share = rest / len(open_bins)
        for b in open_bins:
            given = min(share, limit - kept[b])
            kept[b] += given
            rest -= given
    found, running = [], 0.0
    for count in kept:
        running += count
        found.append(running / total)
    return found


@pytest.mark.parametrize(
    ("size", "clip", "tiles"),
    [((16, 16), 0.05, 4), ((15, 22), 0.02, 3), ((12, 12), 1.0, 2)],
)
def test_equals_the_definition_by_loops(
    size: tuple[int, int], clip: float, tiles: int
) -> None:
    """Histograms, clipping in rounds and blending by loops give the same picture."""
    images = photographs(1, *size)[:, :1]
    expected = torch.tensor(slow_ranks(images[0, 0].double().tolist(), clip, tiles))
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert torch.allclose(equalised(images, clip, tiles)[0, 0], expected, atol=1e-5)


def test_a_dim_scene_gains_contrast() -> None:
    """What filled a twentieth of the range fills all of it, locally too."""
    dim = 0.4 + 0.05 * photographs(1, 64, 64)
    ours = equalised(dim)
    assert float(ours.std()) > 5 * float(dim.std())
    assert float(ours.min()) >= 0
    assert float(ours.max()) <= 1


def test_hue_and_saturation_are_kept() -> None:
    """All channels of a pixel are scaled alike."""
    images = 0.1 + 0.8 * photographs(1, 48, 48)
    ours = equalised(images)
    before = images / images.amax(dim=1, keepdim=True)
    after = ours / ours.amax(dim=1, keepdim=True).clamp(min=1e-9)
    lit = (ours.amax(dim=1, keepdim=True) > 0.01).expand_as(ours)
    assert torch.allclose(before[lit], after[lit], atol=1e-4)


def test_black_pixels_become_grey_not_nan() -> None:
    """Where all channels are zero there is no hue to keep."""
    images = photographs(1, 32, 32)
    images[:, :, :16, :16] = 0
    ours = equalised(images)
    assert bool(ours.isfinite().all())
    assert torch.equal(ours[:, 0, :16, :16], ours[:, 2, :16, :16])


@pytest.mark.parametrize("shade", [0.0, 0.3, 1.0])
def test_an_image_of_one_brightness_comes_back(shade: float) -> None:
    """There is no contrast to raise, and no 0 / 0."""
    images = torch.full((2, 3, 16, 16), shade)
    assert torch.equal(equalised(images), images)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_image_comes_back_and_spoils_no_other(bad: float) -> None:
    """NaN does not become a number, and the neighbour does not notice."""
    images = photographs(2, 32, 32)
    expected = equalised(images)[1]
    images[0, 1, 3, 3] = bad
    ours = equalised(images)
    assert torch.equal(ours[1], expected)
    assert torch.equal(ours[0].nan_to_num(7.0), images[0].nan_to_num(7.0))


@pytest.mark.parametrize("size", [(3, 5), (1, 9), (9, 1), (30, 17)])
def test_sizes_that_do_not_divide_are_taken(size: tuple[int, int]) -> None:
    """Fewer pixels than tiles, or a rest, are no obstacle."""
    images = photographs(1, *size)
    ours = equalised(images)
    assert ours.shape == images.shape
    assert bool(ours.isfinite().all())


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    """The same bits at another place among other images."""
    images = photographs(3, 40, 40)
    assert torch.equal(equalised(images)[2], equalised(images.flip(0))[0])
    assert torch.equal(equalised(images)[2], equalised(images[2:])[0])

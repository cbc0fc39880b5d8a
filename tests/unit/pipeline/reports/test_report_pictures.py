# SPDX-License-Identifier: Apache-2.0
"""Pictures: what each panel shows, what it must not show, and how large it may be."""

import base64
import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from explain.numpy_maps import fixed_keep_mask, upsample
from pipeline.reports.colours import coloured, ramp
from pipeline.reports.pictures import (
    LONGEST_SIDE,
    MOST_BYTES,
    ItemPixels,
    data_uri,
    encoded,
    panel_png,
    panels_of,
    unit_map,
)


def item_of(size: tuple[int, int] = (64, 96), seed: int = 0) -> ItemPixels:
    """Return an item with a noisy image and a map that peaks in one corner."""
    rng = np.random.default_rng(seed)
    attribution = np.zeros((7, 7), dtype=np.float32)
    attribution[1:3, 1:3] = 1e-15
    mask = fixed_keep_mask(upsample(attribution[np.newaxis], size), 0.1)[0]
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return ItemPixels(image=image, attribution=attribution, mask=mask)


def lightness(table: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return CIE lightness L* of sRGB colours, by its definition."""
    unit = table.astype(np.float64) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    value: npt.NDArray[np.float64] = 116 * np.cbrt(luminance) - 16
    return value


def test_lightness_rises_evenly_along_the_ramp() -> None:
    """The order of values can be read in grey: no step is flat or falls."""
    steps = np.diff(lightness(ramp())[::15])
    assert steps.min() > 0
    assert steps.max() < 3 * steps.mean()
    assert lightness(ramp())[0] < 12
    assert lightness(ramp())[-1] > 88


def test_values_beyond_the_ramp_take_its_ends() -> None:
    """Values are clipped, never wrapped around."""
    ends = coloured(np.array([[-1.0, 0.0, 1.0, 9.0]], dtype=np.float32))[0]
    assert (ends[0] == ends[1]).all()
    assert (ends[2] == ends[3]).all()
    assert (ends[1] == ramp()[0]).all()
    assert (ends[2] == ramp()[-1]).all()


@pytest.mark.parametrize(
    ("mode", "titles"),
    [
        ("images", ["Input", "Map", "Kept part"]),
        ("maps", ["Map", "Kept part"]),
        ("none", []),
    ],
)
def test_the_mode_decides_which_panels_there_are(mode: str, titles: list[str]) -> None:
    """Images, maps or none: as the audit's privacy says."""
    panels = panels_of(item_of(), mode)  # type: ignore[arg-type]
    assert [panel.title for panel in panels] == titles
    assert all(panel.pixels.shape == (64, 96, 3) for panel in panels)
    assert all(panel.pixels.dtype == np.uint8 for panel in panels)


def test_maps_without_images_hold_nothing_of_the_image() -> None:
    """In mode maps two different inputs with one map give the same pictures."""
    first, second = item_of(seed=1), item_of(seed=2)
    assert first.image is not None
    assert second.image is not None
    assert not (first.image == second.image).all()
    assert encoded(first, "maps") == encoded(second, "maps")
    assert panel_png(first, "maps", ["x"]) == panel_png(second, "maps", ["x"])


def test_an_item_without_an_image_falls_back_to_its_map() -> None:
    """An input that is gone leaves its map, not an error."""
    item = item_of()
    bare = ItemPixels(image=None, attribution=item.attribution, mask=item.mask)
    assert [panel.title for panel in panels_of(bare, "images")] == ["Map", "Kept part"]


def test_the_kept_part_is_shown_as_it_is() -> None:
    """Inside the mask pixels are untouched; outside they are darker and outlined."""
    item = item_of()
    assert item.image is not None
    kept = panels_of(item, "images")[2].pixels
    assert (kept[item.mask] == item.image[item.mask]).all()
    assert kept[-20:, -20:].mean() < 0.35 * item.image[-20:, -20:].mean()
    assert (kept[~item.mask] == 255).all(axis=1).any()


def test_tiny_maps_are_scaled_to_their_maximum() -> None:
    """Raw maps as small as 1e-15 show as well as any other."""
    unit = unit_map(item_of().attribution, (64, 96))
    assert unit.max() == 1.0
    assert unit.min() == 0.0


@pytest.mark.parametrize("level", [0.0, -1.0, 1e-44])
def test_a_map_without_support_is_dark(level: float) -> None:
    """Nothing positive to show gives no bright spot and no division by zero."""
    unit = unit_map(np.full((7, 7), level, dtype=np.float32), (32, 32))
    assert (unit == 0).all()


def test_pictures_are_bounded_even_for_noise() -> None:
    """The worst picture to compress still fits its share of the page."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1000, 700, 3), dtype=np.uint8)
    uri = data_uri(noise)
    head, data = uri.split(",", 1)
    assert head == "data:image/webp;base64"
    raw = base64.b64decode(data)
    assert len(raw) <= MOST_BYTES
    with Image.open(io.BytesIO(raw)) as picture:
        assert max(picture.size) == LONGEST_SIDE
        assert not picture.getexif()


def test_a_mask_of_another_size_is_refused() -> None:
    """An image and a mask that do not fit each other are never overlaid."""
    item = item_of()
    wrong = ItemPixels(
        image=item.image,
        attribution=item.attribution,
        mask=np.zeros((10, 10), dtype=np.bool_),
    )
    with pytest.raises(ValueError, match="like its mask"):
        panels_of(wrong, "images")


@pytest.mark.parametrize("mode", ["images", "maps", "none"])
def test_the_sheet_of_one_item_is_a_png_with_its_caption(mode: str) -> None:
    """Every mode gives a readable sheet; a longer caption makes it taller."""
    heights = []
    for caption in (["heading"], ["heading", "second " * 100, "third"]):
        data = panel_png(item_of(), mode, caption)  # type: ignore[arg-type]
        with Image.open(io.BytesIO(data)) as sheet:
            assert sheet.format == "PNG"
            assert sheet.width >= 640
            heights.append(sheet.height)
    assert heights[1] > heights[0]

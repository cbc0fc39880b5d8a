# SPDX-License-Identifier: Apache-2.0
"""Preprocessing equals torchvision's, value for value, and masks follow the picture."""

from io import BytesIO

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from pipeline.decoding import (
    decode_mask,
    normalise,
    preprocess,
    preprocess_mask,
)
from pipeline.errors import ItemError, Reason
from pipeline.spec import PreprocessSpec

SIZES = [(451, 300), (300, 451), (224, 224), (256, 256), (100, 60), (257, 1000), (1, 9)]
GEOMETRIES = [
    (256, 224),
    (224, 224),
    (100, 224),
    (64, (32, 200)),
    ((90, 120), None),
    ((60, 300), (224, 101)),
    (None, 224),
    (33, 21),
]


def photograph(size: tuple[int, int]) -> Image.Image:
    """Return a piece of a real photograph with that width and height."""
    return Image.fromarray(skimage.data.astronaut()).resize(size)


def spec_of(geometry: tuple[object, object], **others: object) -> PreprocessSpec:
    """Return a spec with that resize and crop."""
    return PreprocessSpec(resize=geometry[0], crop=geometry[1], **others)


def torchvision_steps(spec: PreprocessSpec, interpolation: str) -> list[object]:
    """Return torchvision's transforms for the same geometry."""
    from torchvision import transforms

    steps: list[object] = []
    if spec.resize is not None:
        mode = transforms.InterpolationMode(interpolation)
        steps.append(transforms.Resize(spec.resize, mode))
    if spec.crop is not None:
        steps.append(transforms.CenterCrop(spec.crop))
    return steps


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", SIZES)
def test_geometry_equals_torchvision(
    size: tuple[int, int], geometry: tuple[object, object]
) -> None:
    """Resize and centre crop give torchvision's bytes at every size."""
    from torchvision import transforms

    spec = spec_of(geometry)
    picture = photograph(size)
    expected = transforms.Compose(torchvision_steps(spec, "bilinear"))(picture)
    found = preprocess(picture, spec)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_every_interpolation_equals_torchvision(name: str) -> None:
    """The spec's names mean the same filters as torchvision's."""
    from torchvision import transforms

    spec = spec_of((80, 64), interpolation=name)
    picture = photograph((201, 123))
    expected = transforms.Compose(torchvision_steps(spec, name))(picture)
    assert np.array_equal(preprocess(picture, spec), np.asarray(expected))


@pytest.mark.parametrize("bands", [1, 3])
def test_normalising_equals_torchvision(bands: int) -> None:
    """Scaling, mean and deviation agree with ToTensor and Normalize within 1e-6."""
    from torchvision import transforms

    mean, std = [0.485, 0.456, 0.406][:bands], [0.229, 0.224, 0.225][:bands]
    spec = spec_of((64, 48), mean=mean, std=std)
    pixels = preprocess(photograph((90, 70)), spec)
    steps = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(spec.mean, spec.std)]
    )
    found = normalise(pixels, spec)
    assert found.shape == (bands, 48, 48)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.abs(found - steps(pixels.copy()).numpy()).max() <= 1e-6


def test_normalising_keeps_leading_dimensions() -> None:
    """A batch is normalised like its pictures one by one."""
    spec = PreprocessSpec()
    pixels = preprocess(photograph((300, 300)), spec)
    batch = normalise(np.stack([pixels, pixels[::-1]]), spec)
    assert np.array_equal(batch[0], normalise(pixels, spec))


def test_bands_follow_the_mean() -> None:
    """One mean asks for greyscale and three for colour, whatever the picture is."""
    grey = PreprocessSpec(mean=[0.5], std=[0.5])
    assert preprocess(photograph((300, 300)), grey).shape == (224, 224, 1)
    single = photograph((300, 300)).convert("L")
    assert preprocess(single, PreprocessSpec()).shape == (224, 224, 3)


def test_a_thread_of_a_picture_is_not_blown_up() -> None:
    """A picture of 1 x 1,000,000 pixels is refused before the resize."""
    with pytest.raises(ItemError) as caught:
        preprocess(Image.new("RGB", (1_000_000, 1)), PreprocessSpec())
    assert caught.value.reason is Reason.IMAGE_TOO_LARGE


def saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return the picture as a file."""
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def square_mask(width: int, height: int) -> np.ndarray:
    """Return a mask with an off-centre block."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 2 :] = 1
    return mask


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_mask_follows_its_picture(geometry: tuple[object, object]) -> None:
    """A mask goes the same way as a picture that is resized by nearest neighbour."""
    mask = square_mask(451, 300) * np.uint8(255)
    spec = spec_of(geometry, interpolation="nearest", mean=[0.5], std=[0.5])
    found = preprocess_mask(Image.fromarray(mask), spec)
    assert found.dtype == np.bool_
    as_picture = preprocess(Image.fromarray(mask), spec)[..., 0] > 0
    assert found.any()
    assert np.array_equal(found, as_picture)


def test_whatever_is_not_zero_is_object() -> None:
    """Bits, grey, colour, palette and 16- and 32-bit masks mean the same object."""
    truth = square_mask(20, 12)
    colour = np.zeros((12, 20, 3), np.uint8)
    colour[..., 2] = truth
    palette = Image.fromarray(truth).convert("P")
    palette.putpalette([9, 9, 9, 0, 0, 0])
    wide = tifffile_bytes(colour.astype(np.uint16), photometric="rgb")
    files = [
        saved(Image.fromarray(truth)),
        saved(Image.fromarray(truth * np.uint8(255)).convert("1")),
        saved(Image.fromarray(colour)),
        saved(palette),
        saved(Image.fromarray(np.dstack([colour, np.full_like(truth, 255)]))),
        saved(Image.fromarray(truth.astype(np.uint16))),
        tifffile_bytes(truth.astype(np.int32)),
        wide,
    ]
    for data in files:
        mask = decode_mask(data, (20, 12))
        assert np.array_equal(np.asarray(mask) == 255, truth == 1)
        assert set(np.unique(mask)) == {0, 255}


def tifffile_bytes(values: np.ndarray, **options: object) -> bytes:
    """Return an array as a TIFF file."""
    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def test_a_mask_of_another_size_has_its_reason() -> None:
    """A mask that does not fit is refused and never stretched."""
    with pytest.raises(ItemError) as caught:
        decode_mask(saved(Image.fromarray(square_mask(20, 12))), (12, 20))
    assert caught.value.reason is Reason.MASK_SIZE_MISMATCH


def test_a_mask_is_turned_upright_before_it_is_compared() -> None:
    """A mask with an orientation of its own fits the upright picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(square_mask(20, 12)), exif=exif)
    mask = decode_mask(data, (12, 20))
    assert np.array_equal(np.asarray(mask) > 0, np.rot90(square_mask(20, 12), -1) > 0)


@pytest.mark.parametrize(
    "data",
    [
        b"no mask",
        saved(Image.new("CMYK", (20, 12)), "TIFF"),
        saved(Image.fromarray(square_mask(20, 12)))[:45],
    ],
)
def test_an_unreadable_mask_has_its_reason(data: bytes) -> None:
    """Whatever is wrong with a mask file is said of the mask and not of the picture."""
    with pytest.raises(ItemError) as caught:
        decode_mask(data, (20, 12))
    assert caught.value.reason is Reason.MASK_UNREADABLE

# SPDX-License-Identifier: Apache-2.0
"""Every picture that is read is read right; every other one has its reason."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decoding import decode
from pipeline.errors import ItemError, Reason
from pipeline.limits import Limits

COFFEE = Image.fromarray(skimage.data.coffee())


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """Return the picture as a file."""
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(values: np.ndarray, **options: object) -> bytes:
    """Return an array as a TIFF file."""
    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def png(values: np.ndarray) -> bytes:
    """Return an array of blue, green, red (and alpha) or grey as a PNG file."""
    return cv2.imencode(".png", values)[1].tobytes()


def reason_of(data: bytes, limits: Limits | None = None) -> Reason:
    """Return the reason for which the data is no picture."""
    with pytest.raises(ItemError) as caught:
        decode(data, limits=limits)
    return caught.value.reason


def png_header(width: int, height: int, colour: int = 2) -> bytes:
    """Return a PNG of which only the header is there."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (body, pixels)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def eighths(values: np.ndarray) -> np.ndarray:
    """Return 16-bit values as 8 bits, in float64: the oracle."""
    return np.floor(values.astype(np.float64) / 257 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_value(kind: str) -> None:
    """What was saved without loss is read without loss."""
    assert np.array_equal(decode(saved(COFFEE, kind)), skimage.data.coffee())


def test_lossless_webp_keeps_every_value() -> None:
    """WebP is read, lossless WebP exactly."""
    data = saved(COFFEE, "WEBP", lossless=True)
    assert np.array_equal(decode(data), skimage.data.coffee())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(kind: str) -> None:
    """A photograph saved at high quality comes back nearly the same."""
    found = np.asarray(decode(saved(COFFEE, kind, quality=95)), np.int16)
    assert np.abs(found - skimage.data.coffee()).mean() < 4


def test_gif_gives_the_first_frame() -> None:
    """Of an animation the first frame is the picture."""
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    picture = decode(data)
    assert picture.mode == "RGB"
    assert picture.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_greyscale_stays_greyscale(mode: str) -> None:
    """One band comes back as one band, alpha dropped."""
    grey = Image.fromarray(skimage.data.camera()).convert(mode)
    picture = decode(saved(grey, "PNG"))
    assert picture.mode == "L"
    assert np.array_equal(picture, grey.convert("L"))


def test_a_palette_becomes_its_colours() -> None:
    """Palette pictures come back in the colours that the palette names."""
    palette = COFFEE.quantize(64)
    picture = decode(saved(palette, "PNG", transparency=3))
    assert np.array_equal(picture, palette.convert("RGB"))


def test_alpha_is_dropped_and_not_blended() -> None:
    """The stored colours are kept even where they are transparent."""
    values = np.dstack([skimage.data.coffee(), np.zeros((400, 600), np.uint8)])
    for kind in ("PNG", "TIFF"):
        picture = decode(saved(Image.fromarray(values), kind))
        assert np.array_equal(picture, skimage.data.coffee())


def wide(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return 16-bit noise with both ends of the range in it."""
    noise = np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)
    noise.flat[:2] = (0, 65535)
    return noise


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_is_scaled_with_rounding(order: str) -> None:
    """Grey of 16 bits is divided by 257 and rounded, from PNG and from TIFF."""
    values = wide((40, 30))
    assert np.array_equal(decode(png(values)), eighths(values))
    assert np.array_equal(decode(tiff(values, byteorder=order)), eighths(values))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_colour_tiff_is_scaled_with_rounding(
    order: str, compression: str | None
) -> None:
    """Colour of 16 bits in TIFF keeps its low byte for the rounding."""
    values = wide((40, 30, 3))
    data = tiff(values, photometric="rgb", byteorder=order, compression=compression)
    assert np.array_equal(decode(data), eighths(values))


@pytest.mark.parametrize("bands", [3, 4])
def test_16_bit_colour_png_is_scaled_with_rounding(bands: int) -> None:
    """Colour of 16 bits in PNG keeps its low byte for the rounding."""
    values = wide((300, 30, bands))
    expected = eighths(values[..., [2, 1, 0]])
    assert np.array_equal(decode(png(values)), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_whose_white_is_zero_is_inverted(dtype: type) -> None:
    """Old scanners store white as zero; it comes back white."""
    values = np.array([[0, np.iinfo(dtype).max]], dtype)
    picture = decode(tiff(values, photometric="miniswhite"))
    assert np.asarray(picture).tolist() == [[255, 0]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """All eight ways of holding the camera come back upright."""
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8, 0] = upright[8:, 8:16, 1] = upright[:8, 16:, 2] = 255
    undo = {  # from upright to as stored, by the EXIF definition of the tag
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 1)[:, ::-1],
        8: np.rot90(upright, -1),
    }
    undo[7] = upright[::-1, ::-1].swapaxes(0, 1)
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    data = saved(stored, kind, exif=exif, **options.get(kind, {}))
    found = np.asarray(decode(data), np.int16)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() < 40


def test_16_bit_pictures_are_turned_as_well() -> None:
    """Orientation holds whatever way the pixels were read."""
    values = wide((6, 4, 3))
    data = tiff(values, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(decode(data), np.rot90(eighths(values), -1))


def test_a_truncated_jpeg_has_its_reason() -> None:
    """Half a photograph is refused and not filled up with grey."""
    data = saved(COFFEE, "JPEG")
    for length in (3, 20, 200, len(data) // 2, len(data) - 100):
        assert reason_of(data[:length]) is Reason.IMAGE_TRUNCATED


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_other_truncated_files_have_the_same_reason(kind: str) -> None:
    """Half a file is truncated, in every format."""
    data = saved(COFFEE, kind)
    assert reason_of(data[: len(data) // 2]) is Reason.IMAGE_TRUNCATED


@pytest.mark.parametrize(
    "data",
    [
        b"Dear reader, this is a letter.\n" * 50,
        b"BM is how this begins" * 9,
        b"\0" * 99,
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"P6 4 4 255 " + b"x" * 48,
        b"x",
    ],
)
def test_text_renamed_to_jpg_is_not_an_image(data: bytes) -> None:
    """Text, and formats that are not read here, are no images, whatever the name."""
    assert reason_of(data) is Reason.NOT_AN_IMAGE


def test_a_png_bomb_is_refused_from_its_header() -> None:
    """60,000 x 60,000 pixels are refused before memory is asked for."""
    assert reason_of(png_header(60_000, 60_000)) is Reason.IMAGE_TOO_LARGE


def test_the_pixel_limit_is_exact() -> None:
    """As many pixels as the limit are read, one row more is refused."""
    limits = Limits(max_pixels=100)
    assert decode(saved(Image.new("L", (10, 10)), "PNG"), limits=limits).size == (
        10,
        10,
    )
    over = saved(Image.new("L", (10, 11)), "PNG")
    assert reason_of(over, limits) is Reason.IMAGE_TOO_LARGE


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {}, {"exif": b"Exif\0\0II*\0"}]
)
def test_a_large_webp_is_refused_before_it_is_opened(
    options: dict[str, object],
) -> None:
    """The size in each kind of WebP header is read without the decoder."""
    data = saved(Image.new("RGB", (50, 30)), "WEBP", **options)
    header_only = data[:30] + b"\0" * 10
    small = Limits(max_pixels=50 * 30 - 1)
    assert reason_of(header_only, small) is Reason.IMAGE_TOO_LARGE
    assert decode(data, limits=Limits(max_pixels=50 * 30)).size == (50, 30)


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF")]
)
def test_other_colour_spaces_are_refused(mode: str, kind: str) -> None:
    """Print and perceptual colour spaces are not guessed into RGB."""
    data = saved(Image.new(mode, (8, 8)), kind)
    assert reason_of(data) is Reason.UNSUPPORTED_CHANNELS


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((8, 9, 5), np.uint8),
        ((8, 9, 2), np.uint16),
        ((8, 9, 3), np.float32),
        ((8, 9), np.float32),
        ((8, 9), np.uint32),
        ((8, 9), np.int16),
    ],
)
def test_other_bands_and_depths_are_refused(
    shape: tuple[int, ...], dtype: type
) -> None:
    """Five bands, floats and 32 bits are sound files that no network here takes."""
    data = tiff(np.ones(shape, dtype), photometric="minisblack", planarconfig="contig")
    assert reason_of(data) is Reason.UNSUPPORTED_CHANNELS


SEEDS = [
    saved(COFFEE.resize((24, 16)), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP")
] + [
    saved(COFFEE.resize((24, 16)).quantize(16), "GIF"),
    saved(COFFEE.resize((24, 16)), "TIFF", compression="tiff_lzw"),
    tiff(wide((16, 24, 3)), photometric="rgb"),
]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    length=st.floats(0, 1),
)
def test_damage_gives_a_picture_or_a_reason(
    data: bytes, edits: list[tuple[int, int]], length: float
) -> None:
    """Whatever bytes are changed or cut off, nothing but ItemError is raised."""
    damaged = bytearray(data)
    for place, value in edits:
        damaged[place % len(damaged)] = value
    cut = bytes(damaged[: max(1, int(len(damaged) * length))]) if edits else data
    try:
        picture = decode(cut, limits=Limits(max_pixels=1_000_000))
    except ItemError:
        return
    assert picture.mode in {"L", "RGB"}

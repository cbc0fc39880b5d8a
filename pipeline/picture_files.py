# SPDX-License-Identifier: Apache-2.0
"""Opening a picture file: only known formats, judged by the header, decoded whole.

Pillow does the decoding; this module keeps its plugins to six formats, refuses sizes
before memory is asked for, and turns the many ways in which it complains about damaged
files into the few reasons that an audit knows.
"""

import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.errors import ItemError, Reason
from pipeline.limits import Limits

#: Importing the plugins registers them; with `formats`, Pillow looks at no others.
FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
    )
)

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", *_TIFF_SIGNATURES)

#: What Pillow's decoders were seen to raise on damaged files.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)

#: Raw modes of 16-bit colour that Pillow reads as the high bytes, and the raw mode
#: that reads the low bytes of the same file.
_LOW_BYTES = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": f"RGB;16{'B' if sys.byteorder == 'little' else 'L'}",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": f"RGBA;16{'B' if sys.byteorder == 'little' else 'L'}",
}
#: Sixteen bits to eight: divided by 257 and rounded, so that 65535 becomes 255.
_TO_8_BITS = ((np.arange(65536, dtype=np.uint32) + 128) // 257).astype(np.uint8)
_BLOCK_ROWS = 256

#: Bytes a pixel at the peak, for most formats and for WebP and TIFF (measured).
_BYTES = 11
_MOST_BYTES = 18


def open_picture(data: bytes, limits: Limits) -> ImageFile.ImageFile:
    """Return the picture of which only the header has been read.

    Raises:
        ItemError: not one of the known formats, a header that is cut off or says
            something that nobody decodes, or more pixels than the limit.
    """
    canvas = _webp_canvas(data)
    if canvas is not None and canvas[0] * canvas[1] > limits.max_pixels:
        # Before it is opened: the decoder allocates then.
        raise ItemError(Reason.IMAGE_TOO_LARGE)
    try:
        picture = Image.open(BytesIO(data), formats=FORMATS)
    except _BOMBS as exc:
        raise ItemError(Reason.IMAGE_TOO_LARGE) from exc
    except DAMAGE as exc:
        raise ItemError(_why_not_opened(data)) from exc
    width, height = picture.size
    if width * height > limits.max_pixels:
        raise ItemError(Reason.IMAGE_TOO_LARGE)
    if not isinstance(picture, ImageFile.ImageFile):
        raise ItemError(Reason.NOT_AN_IMAGE)
    return picture


def load_pixels(picture: ImageFile.ImageFile) -> None:
    """Decode the first frame; damage and missing data become `image_truncated`."""
    try:
        picture.load()
    except _BOMBS as exc:
        raise ItemError(Reason.IMAGE_TOO_LARGE) from exc
    except DAMAGE as exc:
        raise ItemError(Reason.IMAGE_TRUNCATED) from exc


def low_bytes_reader(
    picture: ImageFile.ImageFile, data: bytes, limits: Limits
) -> Callable[[], Image.Image] | None:
    """Return how to read the low bytes of 16-bit colour; None if it is none.

    Must be called before the picture is loaded. Pillow keeps only the high byte of such
    files. Reading them again in the other byte order gives the low one.
    """
    raw_modes = {_raw_mode(tile) for tile in picture.tile}
    if not raw_modes or not raw_modes <= _LOW_BYTES.keys():
        return None

    def read() -> Image.Image:
        again = open_picture(data, limits)
        again.tile = [_with_low_bytes(tile) for tile in again.tile]
        load_pixels(again)
        return again

    return read


def _raw_mode(tile: ImageFile._Tile) -> str | None:
    args = tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args
    return args if isinstance(args, str) else None


def _with_low_bytes(tile: ImageFile._Tile) -> ImageFile._Tile:
    mode = _LOW_BYTES[_raw_mode(tile) or ""]
    rest = tile.args[1:] if isinstance(tile.args, tuple) else None
    return tile._replace(args=mode if rest is None else (mode, *rest))


def blocks(*pictures: Image.Image) -> Iterator[tuple[int, list[npt.NDArray[Any]]]]:
    """Yield the pictures' rows, some hundred at a time, with the number of the first.

    An array of a whole picture would be one more copy of it, or several.
    """
    width, height = pictures[0].size
    for top in range(0, height, _BLOCK_ROWS):
        box = (0, top, width, min(height, top + _BLOCK_ROWS))
        yield top, [np.asarray(picture.crop(box)) for picture in pictures]


def add_low_bytes(high: Image.Image, low: Image.Image) -> None:
    """The picture of high bytes is the 8-bit colour of both pictures together."""
    for top, (upper, lower) in blocks(high, low):
        joined = _TO_8_BITS[(upper.astype(np.uint16) << 8) | lower]
        high.paste(Image.fromarray(joined), (0, top))


def grey_to_8_bits(picture: Image.Image, bits: int, *, inverted: bool) -> Image.Image:
    """Return greyscale of up to 16 bits as 8-bit greyscale, white staying white."""
    levels = _TO_8_BITS
    if bits != 16:
        scale = 255.0 / ((1 << bits) - 1)
        levels = np.rint(np.arange(65536) * scale).astype(np.uint8)
    if inverted:
        levels = levels[::-1]
    plain = Image.new("L", picture.size)
    for top, (values,) in blocks(picture):
        plain.paste(Image.fromarray(levels[values]), (0, top))
    return plain


def decoding_bytes(picture: ImageFile.ImageFile) -> int:
    """Return about how much memory the picture takes while it is decoded.

    Pillow keeps four bytes a pixel whatever the mode. Sixteen bits, transparency and
    turning need a second picture; progressive JPEG keeps its coefficients, and TIFF
    may keep one strip or tile of the picture's size.
    """
    width, height = picture.size
    return width * height * (_MOST_BYTES if picture.format == "TIFF" else _BYTES)


def webp_decoding_bytes(data: bytes) -> int | None:
    """Return the same for WebP, whose decoder allocates on opening; else None."""
    size = _webp_canvas(data)
    return None if size is None else size[0] * size[1] * _MOST_BYTES


def _why_not_opened(data: bytes) -> Reason:
    if data.startswith(_TIFF_SIGNATURES) and _has_tiff_directory(data):
        # The file is sound; its bands, depth or colour space are none that is read.
        return Reason.UNSUPPORTED_CHANNELS
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if data.startswith(_SIGNATURES) or webp:
        return Reason.IMAGE_TRUNCATED
    return Reason.NOT_AN_IMAGE


def _has_tiff_directory(data: bytes) -> bool:
    try:
        big = data[2:3] == b"+" or data[3:4] == b"+"
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
        file = BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        tags = TiffImagePlugin
        return bool(directory[tags.IMAGEWIDTH] and directory[tags.IMAGELENGTH])
    except DAMAGE:
        return False


def _webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Return width and height from a WebP header, None for anything else.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    else:
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        height = int.from_bytes(data[28:30], "little") & 0x3FFF
    return width, height

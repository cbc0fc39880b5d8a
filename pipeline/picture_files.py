# SPDX-License-Identifier: Apache-2.0
"""Opening a picture file: only known formats, judged by the header, decoded whole.

Pillow does the decoding; this module keeps its plugins to six formats, refuses sizes
before memory is asked for, and turns the many ways in which it complains about damaged
files into the few reasons that an audit knows.
"""

import struct
import sys
import zlib
from collections.abc import Callable
from io import BytesIO

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


def open_picture(data: bytes, limits: Limits) -> ImageFile.ImageFile:
    """Return the picture of which only the header has been read.

    Raises:
        ItemError: not one of the known formats, a header that is cut off or says
            something that nobody decodes, or more pixels than the limit.
    """
    _refuse_webp_canvas(data, limits)
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


def join_bytes(high: Image.Image, low: Image.Image) -> Image.Image:
    """Return 16-bit colour as 8-bit colour, from its high and its low bytes."""
    joined = np.asarray(high).copy()
    lower = np.asarray(low)
    for start in range(0, len(joined), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        joined[rows] = _TO_8_BITS[(joined[rows].astype(np.uint16) << 8) | lower[rows]]
    return Image.fromarray(joined)


def grey_to_8_bits(values: npt.NDArray[np.uint16], bits: int) -> Image.Image:
    """Return greyscale of up to 16 bits as 8-bit greyscale, white staying white."""
    if bits == 16:
        return Image.fromarray(_TO_8_BITS[values])
    scale = 255.0 / ((1 << bits) - 1)
    return Image.fromarray(np.rint(values * scale).astype(np.uint8))


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


def _refuse_webp_canvas(data: bytes, limits: Limits) -> None:
    """Raise if a WebP header asks for too much: its decoder allocates on opening.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return
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
    if width * height > limits.max_pixels:
        raise ItemError(Reason.IMAGE_TOO_LARGE)

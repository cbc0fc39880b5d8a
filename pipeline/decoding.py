# SPDX-License-Identifier: Apache-2.0
"""From a file's bytes to the network's input, without torch.

```
bytes -> decode -> picture -> preprocess -> uint8 (H, W, C) -> normalise -> float32
bytes -> decode_mask -> mask -> preprocess_mask -> bool (H, W)
```

The geometry is that of torchvision's Resize and CenterCrop on Pillow images, value for
value. Decisions that a reader of a report may ask about:

- Alpha is dropped, not blended: the network sees the stored colours, as it does behind
  torchvision's own loader.
- Sixteen bits become eight by division by 257 with rounding. (Greyscale with alpha and
  premultiplied colour at 16 bits keep their high byte.)
- Of animated and multi-page files the first frame is the picture.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from pipeline.errors import ItemError, Reason
from pipeline.limits import Limits
from pipeline.memory_budget import MemoryBudget
from pipeline.picture_files import (
    DAMAGE,
    add_low_bytes,
    blocks,
    decoding_bytes,
    grey_to_8_bits,
    load_pixels,
    low_bytes_reader,
    open_picture,
    webp_decoding_bytes,
)
from pipeline.spec import PreprocessSpec

#: A very long and thin picture may grow enormous when its short side is scaled up.
MAX_RESIZED_PIXELS = 32_000_000

_GREY_16 = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_GREY = frozenset({"1", "L", "LA", "La"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX"})
#: The fourth band of RGBX says nothing either.
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa", "RGBX"})

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, *, limits: Limits | None = None) -> Image.Image:
    """Return the upright picture as 8-bit greyscale ("L") or colour ("RGB").

    Raises:
        ItemError: `not_an_image`, `image_truncated`, `image_too_large`, or
            `unsupported_channels` for CMYK, YCbCr, LAB, 32-bit, float and multi-band
            files.
    """
    limits = limits or Limits()
    return _decoded(open_picture(data, limits), data, limits)


@contextmanager
def decoded(
    data: bytes, *, limits: Limits, budget: MemoryBudget
) -> Iterator[Image.Image]:
    """The picture of `decode`, whose memory the budget lends until the block ends.

    Raises:
        ItemError: as `decode`.
    """
    with _opened(data, limits, budget) as picture:
        yield _decoded(picture, data, limits)


@contextmanager
def _opened(
    data: bytes, limits: Limits, budget: MemoryBudget
) -> Iterator[ImageFile.ImageFile]:
    needed = webp_decoding_bytes(data)
    if needed is None:
        picture = open_picture(data, limits)
        with budget.hold(decoding_bytes(picture)):
            yield picture
    else:
        with budget.hold(needed):
            yield open_picture(data, limits)


def _decoded(picture: ImageFile.ImageFile, data: bytes, limits: Limits) -> Image.Image:
    if picture.mode not in _GREY_16 | _GREY | _COLOUR:
        raise ItemError(Reason.UNSUPPORTED_CHANNELS)
    read_low_bytes = low_bytes_reader(picture, data, limits)
    bits, inverted = _tiff_depth(picture)
    load_pixels(picture)
    turn = _turn_of(picture)
    plain: Image.Image = picture
    if picture.mode in _GREY_16:
        plain = grey_to_8_bits(picture, bits, inverted=inverted)
    elif read_low_bytes is not None:
        add_low_bytes(picture, read_low_bytes())
    plain = _without_alpha(plain)
    if plain is not picture:
        # The caller may keep it, but nobody needs its pixels any more.
        picture.close()
    return plain if turn is None else plain.transpose(turn)


def _tiff_depth(picture: ImageFile.ImageFile) -> tuple[int, bool]:
    """Return bits a sample, and whether 16-bit white is stored as zero."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 16, False
    tags = picture.tag_v2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    return bits, tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0


def _without_alpha(picture: Image.Image) -> Image.Image:
    """Return the picture as L or RGB, transparency dropped."""
    picture.info.pop("transparency", None)
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode == "RGBa":
        picture = picture.convert("RGBA")
    return _in_mode(picture, "L" if picture.mode in _GREY else "RGB")


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """Return the picture in that mode; Pillow itself would copy one that is."""
    return picture if picture.mode == mode else picture.convert(mode)


def _turn_of(picture: Image.Image) -> Image.Transpose | None:
    """Return what turns the picture as its camera was held (EXIF tag 0x0112)."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        # Pixels are sound; a broken note beside them says nothing about holding.
        return None
    return _UPRIGHT.get(orientation)


def decode_mask(
    data: bytes,
    image_size: tuple[int, int],
    *,
    limits: Limits | None = None,
    budget: MemoryBudget | None = None,
) -> Image.Image:
    """Return a ground-truth mask, "L" with 255 on the object and 0 elsewhere.

    Whatever is not zero is object: any value of a greyscale mask (so any instance of an
    8-, 16- or 32-bit instance mask), any index but 0 of a palette mask whatever its
    colour, any pixel of a colour mask that is not black. Alpha says nothing. A mask
    saved as JPEG is taken at its word, faint smears included: use PNG.

    Units: `image_size` is (width, height) of the upright picture.

    Raises:
        ItemError: `mask_unreadable`, or `mask_size_mismatch` when the upright mask and
            the upright picture differ in size.
    """
    try:
        # A budget of nothing bounds nothing, so that nobody waits for it.
        mask = _object_pixels(data, limits or Limits(), budget or MemoryBudget(0))
    except ItemError as exc:
        raise ItemError(Reason.MASK_UNREADABLE) from exc
    if mask.size != tuple(image_size):
        raise ItemError(Reason.MASK_SIZE_MISMATCH)
    return mask


def _object_pixels(data: bytes, limits: Limits, budget: MemoryBudget) -> Image.Image:
    with _opened(data, limits, budget) as picture:
        if picture.mode not in _GREY_16 | _GREY | _COLOUR | {"I"}:
            raise ItemError(Reason.UNSUPPORTED_CHANNELS)
        read_low_bytes = low_bytes_reader(picture, data, limits)
        load_pixels(picture)
        parts: list[Image.Image] = [picture]
        if read_low_bytes is not None:
            parts.append(read_low_bytes())
        turn = _turn_of(picture)
        plain = Image.new("L", picture.size)
        for top, values in blocks(*parts):
            found = np.logical_or.reduce([_is_object(v, picture.mode) for v in values])
            rows = Image.fromarray(found.astype(np.uint8) * np.uint8(255))
            plain.paste(rows, (0, top))
        picture.close()
        return plain if turn is None else plain.transpose(turn)


def _is_object(values: npt.NDArray[Any], mode: str) -> npt.NDArray[np.bool_]:
    """Return where any band but alpha is not zero."""
    nonzero: npt.NDArray[np.bool_] = values != 0
    if nonzero.ndim == 2:
        return nonzero
    bands = nonzero.shape[2] - (mode in _WITH_ALPHA)
    return np.asarray(nonzero[..., :bands].any(axis=2))


def preprocess(image: Image.Image, spec: PreprocessSpec) -> npt.NDArray[np.uint8]:
    """Return the picture resized and cropped as the spec says.

    Shape: picture → (H, W, C) uint8, C = 1 or 3 as the spec has one mean or three.

    Raises:
        ItemError: `image_too_large` when resizing would make it so.
    """
    image = _in_mode(image, "L" if len(spec.mean) == 1 else "RGB")
    fitted = _fit(image, spec, _RESAMPLING[spec.interpolation])
    pixels = np.asarray(fitted)
    return pixels.reshape(*pixels.shape[:2], -1)


def preprocess_mask(mask: Image.Image, spec: PreprocessSpec) -> npt.NDArray[np.bool_]:
    """Return the mask after the picture's own resize and crop, by nearest neighbour.

    Shape: mask → (H, W) bool.
    """
    fitted = _fit(_in_mode(mask, "L"), spec, Image.Resampling.NEAREST)
    return np.asarray(fitted).astype(np.bool_)


def _fit(
    image: Image.Image, spec: PreprocessSpec, resampling: Image.Resampling
) -> Image.Image:
    size = _resized(image.size, spec.resize)
    if size != image.size:
        if size[0] * size[1] > MAX_RESIZED_PIXELS:
            raise ItemError(Reason.IMAGE_TOO_LARGE)
        image = image.resize(size, resampling)
    if spec.crop is None:
        return image
    height, width = spec.size
    left, top = _offset(image.width, width), _offset(image.height, height)
    # Beyond its edges Pillow fills with zeros.
    return image.crop((left, top, left + width, top + height))


def _resized(
    size: tuple[int, int], resize: int | tuple[int, int] | None
) -> tuple[int, int]:
    """Return (width, height) after the resize; the longer side is cut to an int."""
    width, height = size
    if resize is None:
        return size
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def _offset(length: int, wanted: int) -> int:
    """Return where a centred window starts; below zero where there is too little."""
    if wanted > length:
        return -((wanted - length) // 2)
    # Half to even, as Python's round does and torchvision with it.
    return round((length - wanted) / 2.0)


def normalise(
    pixels: npt.NDArray[np.uint8], spec: PreprocessSpec
) -> npt.NDArray[np.float32]:
    """Return the network's input: scaled to 0..1, mean subtracted, divided by std.

    Shape: (H, W, C) uint8 → (C, H, W) float32; leading dimensions are kept.
    """
    values = np.moveaxis(pixels, -1, -3).astype(np.float32, order="C")
    values /= np.float32(255)
    values -= np.asarray(spec.mean, np.float32)[:, None, None]
    values /= np.asarray(spec.std, np.float32)[:, None, None]
    return values

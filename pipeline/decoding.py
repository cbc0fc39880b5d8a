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

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from pipeline.errors import ItemError, Reason
from pipeline.limits import Limits
from pipeline.picture_files import (
    DAMAGE,
    grey_to_8_bits,
    join_bytes,
    load_pixels,
    low_bytes_reader,
    open_picture,
)
from pipeline.spec import PreprocessSpec

#: A very long and thin picture may grow enormous when its short side is scaled up.
MAX_RESIZED_PIXELS = 100_000_000

_GREY_16 = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_GREY = frozenset({"1", "L", "LA", "La"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX"})

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
    picture = open_picture(data, limits)
    if picture.mode not in _GREY_16 | _GREY | _COLOUR:
        raise ItemError(Reason.UNSUPPORTED_CHANNELS)
    read_low_bytes = low_bytes_reader(picture, data, limits)
    bits, inverted = _tiff_depth(picture)
    load_pixels(picture)
    if picture.mode in _GREY_16:
        values = np.asarray(picture)
        plain = grey_to_8_bits(~values if inverted else values, bits)
    elif read_low_bytes is not None:
        plain = join_bytes(picture, read_low_bytes())
    else:
        plain = picture
    return _upright(_without_alpha(plain), picture)


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
    return picture.convert("L" if picture.mode in _GREY else "RGB")


def _upright(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Return the picture as its camera was held (EXIF tag 0x0112)."""
    try:
        orientation = source.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        # Pixels are sound; a broken note beside them says nothing about holding.
        orientation = 1
    turn = _UPRIGHT.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def decode_mask(
    data: bytes, image_size: tuple[int, int], *, limits: Limits | None = None
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
        mask = _object_pixels(data, limits or Limits())
    except ItemError as exc:
        raise ItemError(Reason.MASK_UNREADABLE) from exc
    if mask.size != tuple(image_size):
        raise ItemError(Reason.MASK_SIZE_MISMATCH)
    return mask


def _object_pixels(data: bytes, limits: Limits) -> Image.Image:
    picture = open_picture(data, limits)
    if picture.mode not in _GREY_16 | _GREY | _COLOUR | {"I"}:
        raise ItemError(Reason.UNSUPPORTED_CHANNELS)
    read_low_bytes = low_bytes_reader(picture, data, limits)
    load_pixels(picture)
    values = np.asarray(picture)
    if values.ndim == 3:
        bands = values.shape[2] - (picture.mode in {"LA", "La", "PA", "RGBA", "RGBa"})
        found = values[..., : bands if picture.mode != "RGBX" else 3].any(axis=2)
        if read_low_bytes is not None:
            found |= np.asarray(read_low_bytes())[..., :bands].any(axis=2)
    else:
        found = values != 0
    plain = Image.fromarray(found.astype(np.uint8) * np.uint8(255))
    return _upright(plain, picture)


def preprocess(image: Image.Image, spec: PreprocessSpec) -> npt.NDArray[np.uint8]:
    """Return the picture resized and cropped as the spec says.

    Shape: picture → (H, W, C) uint8, C = 1 or 3 as the spec has one mean or three.

    Raises:
        ItemError: `image_too_large` when resizing would make it so.
    """
    image = image.convert("L" if len(spec.mean) == 1 else "RGB")
    fitted = _fit(image, spec, _RESAMPLING[spec.interpolation])
    pixels = np.asarray(fitted)
    return pixels.reshape(*pixels.shape[:2], -1)


def preprocess_mask(mask: Image.Image, spec: PreprocessSpec) -> npt.NDArray[np.bool_]:
    """Return the mask after the picture's own resize and crop, by nearest neighbour.

    Shape: mask → (H, W) bool.
    """
    fitted = _fit(mask.convert("L"), spec, Image.Resampling.NEAREST)
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

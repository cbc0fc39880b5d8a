# SPDX-License-Identifier: Apache-2.0
"""Pictures of one explanation: the original, the full map, and what the mask keeps.

Pixels and maps come in as arrays; nothing here reads a file. Pictures carry no metadata
and are bounded in pixels and bytes. Import this module only where pixels are drawn: it
needs numpy and Pillow.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from explain.numpy_maps import upsample
from pipeline.reports.colours import coloured
from pipeline.reports.inputs import GalleryMode, Picture

#: Longest side of a picture in the report, in pixels.
LONGEST_SIDE = 256
#: Most bytes of one encoded picture; the quality falls until it fits.
MOST_BYTES = 24_000
#: Share of the map's colour over the greyed photograph.
BLEND = 0.68
#: Brightness left to what the mask does not keep.
DIMMED = 0.28
#: Drawn inside a dark halo, so that it shows on any picture.
_OUTLINE = (255, 255, 255)
_PAPER, _INK, _FAINT = (255, 255, 255), (23, 26, 33), (96, 103, 115)

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPixels:
    """What the pictures of one item are drawn from.

    Attributes:
        image: (H, W, 3) uint8 sRGB, as the network saw it; None if not to be shown.
        attribution: (h, w) float32, the stored map.
        mask: (H, W) bool, what the threshold policy kept.
    """

    image: Bytes | None
    attribution: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture with its name and a description for those who cannot see it."""

    title: str
    description: str
    pixels: Bytes


def panels_of(item: ItemPixels, mode: GalleryMode) -> list[Panel]:
    """Return the panels that may be shown: three, two without the image, or none.

    Raises:
        ValueError: shapes do not fit each other.
    """
    if mode == "none":
        return []
    size = _size(item)
    unit = unit_map(item.attribution, size)
    if mode == "maps" or item.image is None:
        return [
            Panel(
                title="Map",
                description="The attribution map, dark where low, light where high.",
                pixels=coloured(unit),
            ),
            Panel(
                title="Kept part",
                description="The map where the mask keeps it, dimmed elsewhere.",
                pixels=_kept(coloured(unit), item.mask),
            ),
        ]
    return [
        Panel(
            title="Input",
            description="The picture as the network saw it.",
            pixels=item.image,
        ),
        Panel(
            title="Map",
            description="The attribution map over the greyed picture.",
            pixels=_blended(item.image, unit),
        ),
        Panel(
            title="Kept part",
            description="The picture where the mask keeps it, dimmed elsewhere.",
            pixels=_kept(item.image, item.mask),
        ),
    ]


def unit_map(
    attribution: npt.NDArray[np.float32], size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Return the positive part of the map, enlarged, with 1 at its maximum.

    Shape: (h, w) float32 -> (H, W) float32 in [0, 1].
    """
    enlarged = upsample(attribution[np.newaxis], size)[0]
    positive: npt.NDArray[np.float32] = np.maximum(enlarged, np.float32(0))
    highest = positive.max()
    # Dividing by a subnormal maximum would overflow; such a map is dark.
    if not highest > np.finfo(np.float32).tiny:
        return np.zeros(size, dtype=np.float32)
    unit: npt.NDArray[np.float32] = positive / highest
    return unit


def encoded(item: ItemPixels, mode: GalleryMode) -> list[Picture]:
    """Return the panels of an item as the page embeds them."""
    return [
        Picture(
            title=panel.title,
            description=panel.description,
            data_uri=data_uri(panel.pixels),
        )
        for panel in panels_of(item, mode)
    ]


def data_uri(pixels: Bytes) -> str:
    """Return the picture as a WebP data URI of bounded size."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    for quality in (82, 70, 55, 40, 25, 10, 1):
        data = _webp(picture, quality)
        if len(data) <= MOST_BYTES:
            break
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")


def panel_png(item: ItemPixels, mode: GalleryMode, caption: Sequence[str]) -> bytes:
    """Return one PNG: the panels side by side, and the lines of the caption below.

    The first line is the heading. In mode `none` the caption stands alone.
    """
    panels = panels_of(item, mode)
    side, gap, margin, line = 320, 16, 24, 22
    pictures = [_fitted(panel.pixels, side) for panel in panels]
    tall = max((picture.height for picture in pictures), default=0)
    wide = sum(picture.width for picture in pictures) + gap * max(0, len(pictures) - 1)
    title_height = 28 if pictures else 0
    below = margin + title_height + tall + (18 if pictures else 0)
    sheet = Image.new(
        "RGB", (max(wide, 640) + 2 * margin, below + line * len(caption) + margin)
    )
    sheet.paste(_PAPER, (0, 0, *sheet.size))
    draw = ImageDraw.Draw(sheet)
    x = margin
    for panel, picture in zip(panels, pictures, strict=True):
        draw.text((x, margin), panel.title, fill=_FAINT, font=_font(15))
        sheet.paste(picture, (x, margin + title_height))
        x += picture.width + gap
    for row, text in enumerate(caption):
        size, ink = (17, _INK) if row == 0 else (14, _FAINT)
        shown = _shortened(text, draw, size, sheet.width - 2 * margin)
        draw.text((margin, below + row * line), shown, fill=ink, font=_font(size))
    return _png(sheet)


def _size(item: ItemPixels) -> tuple[int, int]:
    size = (int(item.mask.shape[0]), int(item.mask.shape[1]))
    if item.image is not None and item.image.shape != (*size, 3):
        raise ValueError(
            f"expected an image of shape {(*size, 3)} like its mask, got "
            f"{item.image.shape}"
        )
    return size


def _blended(image: Bytes, unit: npt.NDArray[np.float32]) -> Bytes:
    # Rec. 709 luma of the encoded values: a faithful grey is all that is needed.
    grey = image.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    mixed = BLEND * coloured(unit) + (1 - BLEND) * grey[..., np.newaxis]
    return np.rint(mixed).astype(np.uint8)


def _kept(picture: Bytes, mask: npt.NDArray[np.bool_]) -> Bytes:
    """Return the picture with its kept part in full, outlined; the rest is dim."""
    grey = picture.mean(axis=2, keepdims=True)
    faded = DIMMED * (0.35 * picture + 0.65 * grey)
    shown = np.where(mask[..., np.newaxis], picture, faded)
    outline = _grown(mask) & ~mask
    halo = _grown(outline) & ~outline & ~mask
    shown[halo] *= 0.4
    shown[outline] = _OUTLINE
    return np.rint(shown).astype(np.uint8)


def _grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the mask with its four neighbours."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _fitted(pixels: Bytes, side: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    factor = side / max(picture.size)
    size = (
        max(1, round(picture.width * factor)),
        max(1, round(picture.height * factor)),
    )
    return picture.resize(size, Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _shortened(text: str, draw: ImageDraw.ImageDraw, size: int, width: int) -> str:
    """Return the text, cut with an ellipsis where it would leave the sheet."""
    if draw.textlength(text, font=_font(size)) <= width:
        return text
    text = text[:width]  # no glyph is narrower than a pixel
    while text and draw.textlength(text + "...", font=_font(size)) > width:
        text = text[:-1]
    return text + "..."


def _webp(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

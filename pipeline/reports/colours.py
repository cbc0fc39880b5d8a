# SPDX-License-Identifier: Apache-2.0
"""The colour ramp of attribution maps: even steps of value look like even steps.

The ramp is computed, not copied: in the OKLab space its lightness rises linearly from
dark violet to light yellow, while hue turns through red. Rising lightness alone carries
the order, so that it also reads in grey and for colour-blind people.

Source: Ottosson 2020, A perceptual color space for image processing (the matrices);
IEC 61966-2-1 (the transfer function of sRGB).
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

STEPS = 256
#: Lightness in OKLab, 0 black and 1 white.
DARKEST, LIGHTEST = 0.22, 0.94
#: Hue in degrees at the dark and the light end, turning through red.
FIRST_HUE, LAST_HUE = -75.0, 108.0
#: Chroma at the two ends and in the middle, within what a screen can show.
END_CHROMA, MIDDLE_CHROMA = 0.09, 0.185

_LMS_FROM_LAB = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_RGB_FROM_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@lru_cache(maxsize=1)
def ramp() -> Bytes:
    """Return the colours of the values 0/255 to 255/255.

    Shape: (256, 3) uint8, sRGB.
    """
    along = np.linspace(0.0, 1.0, STEPS)
    lightness = DARKEST + (LIGHTEST - DARKEST) * along
    hue = np.deg2rad(FIRST_HUE + (LAST_HUE - FIRST_HUE) * along)
    chroma = END_CHROMA + (MIDDLE_CHROMA - END_CHROMA) * np.sin(np.pi * along)
    linear = _linear_rgb(lightness, chroma, hue)
    # Where the screen cannot show the colour, less chroma keeps lightness and hue.
    while (outside := ((linear < 0) | (linear > 1)).any(axis=1)).any():
        chroma = np.where(outside, chroma * 0.98, chroma)
        linear = _linear_rgb(lightness, chroma, hue)
    table = np.rint(255 * _encoded(linear)).astype(np.uint8)
    table.flags.writeable = False
    return table


def coloured(unit: npt.NDArray[np.floating]) -> Bytes:
    """Return the picture of values between 0 and 1; others are clipped.

    Shape: (H, W) float -> (H, W, 3) uint8.
    """
    steps = np.rint(np.clip(unit, 0.0, 1.0) * (STEPS - 1)).astype(np.intp)
    picture: Bytes = ramp()[steps]
    return picture


def _linear_rgb(lightness: Floats, chroma: Floats, hue: Floats) -> Floats:
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    linear: Floats = ((lab @ _LMS_FROM_LAB.T) ** 3) @ _RGB_FROM_LMS.T
    return linear


def _encoded(linear: Floats) -> Floats:
    """Return linear light as sRGB values between 0 and 1."""
    low = 12.92 * linear
    high = 1.055 * np.power(np.clip(linear, 0.0, 1.0), 1 / 2.4) - 0.055
    return np.clip(np.where(linear <= 0.0031308, low, high), 0.0, 1.0)

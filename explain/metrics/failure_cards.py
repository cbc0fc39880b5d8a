# SPDX-License-Identifier: Apache-2.0
"""The card of the failure cases, which describe an item and judge nothing."""

from explain.kinds import IMAGE
from explain.metrics.card import NO_BASELINE, Direction, Family, MetricCard
from explain.parameters import Parameter

_CASES = ("texture", "contrast", "peaks", "margin")

FAILURE_CASES = MetricCard(
    name="failure_cases",
    kinds=(IMAGE,),
    family=Family.FAILURE_CASES,
    values=tuple(
        value for case in _CASES for value in (f"case_{case}", f"case_{case}_flag")
    ),
    formula=(
        "texture: mean length of the luminance's Sobel gradient; contrast: standard"
        " deviation of the luminance; peaks: highest positions within a tenth of the"
        " map's longer side that reach half of its maximum; margin: p of the first"
        " class - p of the second; flag: 1 beyond the limit, else 0"
    ),
    source=(
        "the four cases of Li 2025, A Lightweight Explainability Framework, sections 7"
        " and 8.5, which gives no rule; the rules are our own"
    ),
    baseline=NO_BASELINE,
    direction=Direction.NEITHER,
    units="range a pixel; range; peaks; probability; flags are 0 or 1",
    range=(0.0, 1.0),
    ranges={"case_peaks": (0.0, None), "case_texture": (0.0, None)},
    conventions={
        "luminance": "0.299 R + 0.587 G + 0.114 B of inputs in 0 .. 1; else the mean",
        "map": "stored native map, for the peaks",
        "limits": "a fifth of 40 photographs (DAVIS) exceed each, a third the margin's",
    },
    parameters={
        "texture": Parameter(
            meaning="complex texture: flagged above this", default=0.045, low=0.0
        ),
        "contrast": Parameter(
            meaning="low contrast: flagged below this",
            default=0.125,
            low=0.0,
            high=1.0,
        ),
        "peaks": Parameter(
            meaning="several objects: flagged from this many peaks on",
            default=2,
            low=1,
            high=1000,
        ),
        "margin": Parameter(
            meaning="fine-grained classes: flagged below this",
            default=0.05,
            low=0.0,
            high=1.0,
        ),
    },
    does_not_show=(
        "That the explanation failed: it says where failures are more likely. Peaks of"
        " the map are not objects of the picture, and a narrow margin may be plain"
        " doubt."
    ),
)

CARDS = (FAILURE_CASES,)

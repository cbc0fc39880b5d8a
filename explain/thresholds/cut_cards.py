# SPDX-License-Identifier: Apache-2.0
"""What the rules keep that look at the map alone and cut it at a value."""

from explain.parameters import Parameter
from explain.thresholds.card import PolicyCard

FLOOR = Parameter(
    meaning="the least fraction kept where that much is positive; 0 is none",
    default=0.0,
    low=0,
    high=1,
)

_FIXED = PolicyCard(
    name="fixed",
    rule=(
        "The ceil(keep * n) positions with the highest positive attribution; equal"
        " values by lowest index; zeros are never kept."
    ),
    source="Li 2025, A Lightweight Explainability Framework, threshold simplification",
    parameters={
        "keep": Parameter(
            meaning="the fraction of positions to keep", default=0.10, above=0, high=1
        )
    },
)

_ABSOLUTE = PolicyCard(
    name="absolute",
    rule="The positions of at least a value in the map's own units.",
    source="the plain definition",
    parameters={
        "value": Parameter(meaning="the least attribution kept", above=0),
        "floor": FLOOR,
    },
)

_RELATIVE = PolicyCard(
    name="relative",
    rule="The positions of at least a fraction of the map's maximum.",
    source="Selvaraju et al. 2017, Grad-CAM, section 4.1 (there 15 %)",
    parameters={
        "fraction": Parameter(
            meaning="the fraction of the maximum", default=0.5, above=0, high=1
        ),
        "floor": FLOOR,
    },
)

_OTSU = PolicyCard(
    name="otsu",
    rule=(
        "The positions above Otsu's threshold, found on the float values themselves,"
        " without bins; negative values count as zero."
    ),
    source="Otsu 1979, A threshold selection method from gray-level histograms, eq. 18",
    parameters={"floor": FLOOR},
)

_MASS = PolicyCard(
    name="mass",
    rule="The fewest positions that hold a share tau of the positive mass.",
    source="the plain definition",
    parameters={
        "tau": Parameter(
            meaning="the share of positive mass", default=0.5, above=0, high=1
        ),
        "floor": FLOOR,
    },
)

_MULTI_LEVEL = PolicyCard(
    name="multi_level",
    rule="Nested masks of several fixed fractions at once; one of them is the mask.",
    source="Li 2025, A Lightweight Explainability Framework, multi-level maps",
    parameters={
        "levels": Parameter(
            meaning="the fractions of positions to keep",
            default=(0.05, 0.10, 0.20, 0.50),
            above=0,
            high=1,
        ),
        "main": Parameter(
            meaning="the level that is the mask", default=0.10, above=0, high=1
        ),
    },
)

CARDS = (_FIXED, _ABSOLUTE, _RELATIVE, _OTSU, _MASS, _MULTI_LEVEL)

# SPDX-License-Identifier: Apache-2.0
"""What of an item may decide its policy, in words and without torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One measurable property of an item.

    Attributes:
        meaning: One clause for people.
        need: The field of ``ThresholdContext`` that it is measured on; empty for the
            map alone.
    """

    meaning: str
    need: str = ""


#: Every feature by name, in the order in which tables hold them.
FEATURES: dict[str, Feature] = {
    "entropy": Feature(
        meaning="the entropy of the picture's grey levels, as a share of 8 bit",
        need="images",
    ),
    "edges": Feature(
        meaning="the share of pixels on an edge (Sobel gradient above 0.1)",
        need="images",
    ),
    "probability": Feature(
        meaning="the softmax probability of the explained class", need="probabilities"
    ),
    "concentration": Feature(
        meaning="the share of the map's positive mass in its highest tenth"
    ),
    "peaks": Feature(
        meaning="the logarithm of one more than the number of separate peaks"
    ),
}

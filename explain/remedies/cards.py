# SPDX-License-Identifier: Apache-2.0
"""What each remedy does, in words and without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from explain.parameters import Parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyCard:
    """A remedy's definition: what a reader of the report needs to know.

    Attributes:
        name: The name that an audit uses.
        title: What it is, in a few words.
        against: The failure that it is meant for.
        formula: The definition, in one line of plain text.
        source: Paper, or where the rule is our own, that it is.
        cost: In forward passes, for people.
        does_not_show: Warns of the wrong conclusion.
        parameters: What can be set, with meaning and default.
    """

    name: str
    title: str
    against: str
    formula: str
    source: str
    cost: str
    does_not_show: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


_FUSION = RemedyCard(
    name="fusion",
    title="Multi-scale fusion",
    against="Dense texture, whose local gradients drown what matters at large.",
    formula=(
        "map = max|m_1| * mean over scales s of up(m_s / max|m_s|), m_s the map of the"
        " input resized by s, up to the largest native grid"
    ),
    source="Own rule, after the remedy that the founding paper names for texture",
    cost="the sum of the squared scales times that of the method",
    does_not_show=(
        "What the network sees at its own scale alone: at the others the input is one"
        " that it was not given."
    ),
    parameters={
        "scales": Parameter(
            meaning="factors of the input's size, 1 among them",
            default=(0.75, 1.0, 1.5),
            low=0.1,
            high=4.0,
        )
    },
)

_SMOOTHING = RemedyCard(
    name="smoothing",
    title="Adaptive smoothing",
    against="Ragged maps, whose peaks are single cells.",
    formula=(
        "Gaussian with sigma = sigma_min + (sigma_max - sigma_min) * r, r = total"
        " variation / (4 * mass) of the map, which lies in [0, 1]"
    ),
    source="Own rule, after the remedy that the founding paper names for texture",
    cost="no forward pass",
    does_not_show="Detail below the width of the Gaussian, which is lost.",
    parameters={
        "sigma_min": Parameter(
            meaning="width for a flat map, in cells of the map",
            default=0.0,
            low=0.0,
            high=32.0,
        ),
        "sigma_max": Parameter(
            meaning="width for a map of isolated cells, in cells of the map",
            default=1.5,
            low=0.0,
            high=32.0,
        ),
    },
)

_CONTRAST = RemedyCard(
    name="contrast",
    title="Contrast enhancement (CLAHE)",
    against="Low contrast, where object and background give alike gradients.",
    formula=(
        "the map is that of the input after contrast-limited adaptive histogram"
        " equalisation; logits and target are those of the plain input"
    ),
    source=(
        "Zuiderveld 1994, Contrast Limited Adaptive Histogram Equalization, Graphics"
        " Gems IV, VIII.5"
    ),
    cost="one more forward pass",
    does_not_show=(
        "The reasons for the score of the plain input: the map belongs to an input"
        " that the network was not asked about."
    ),
    parameters={
        "clip": Parameter(
            meaning="most pixels of a tile in one bin, as a share of the tile",
            default=0.01,
            low=1 / 256,
            high=1.0,
        ),
        "tiles": Parameter(meaning="tiles along each side", default=8, low=1, high=64),
    },
)

#: In the order in which they are applied.
REMEDIES: dict[str, RemedyCard] = {
    card.name: card for card in (_FUSION, _SMOOTHING, _CONTRAST)
}

# SPDX-License-Identifier: Apache-2.0
"""What each method computes, in words and without torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCard:
    """A method's definition: what a reader of the report needs to know.

    ``map_kind`` says what the map's axes are; ``cost`` is in forward passes.
    """

    name: str
    title: str
    formula: str
    source: str
    map_kind: str
    signed: bool
    cost: str
    does_not_show: str


_GRADCAM = MethodCard(
    name="gradcam",
    title="Grad-CAM",
    formula=(
        "w_k = mean over places of d y_c / d A_k;  map = ReLU(sum over k of w_k A_k),"
        " with y_c the logit of the target class and A the tapped feature map"
    ),
    source=(
        "Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via"
        " Gradient-based Localization, eq. 1 and 2"
    ),
    map_kind="pixels",
    signed=False,
    cost="about one forward pass",
    does_not_show=(
        "Evidence against the class, and detail finer than the tapped layer's grid."
    ),
)

#: Every method by the name that an audit uses.
METHODS: dict[str, MethodCard] = {card.name: card for card in (_GRADCAM,)}

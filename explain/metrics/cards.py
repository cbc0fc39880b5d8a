# SPDX-License-Identifier: Apache-2.0
"""What each metric means: the definition that goes with every number. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Which way a better explanation moves the value."""

    HIGHER = "higher is better"
    LOWER = "lower is better"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCard:
    """A metric's definition.

    ``values`` are the keys that the metric gives; ``axiom_values`` those that it gives
    for methods with a completeness axiom only; ``defaults`` the constants that two
    libraries may set differently under one name; ``does_not_show`` warns of the wrong
    conclusion; ``forwards_per_item`` is the cost, and ``explanations_per_item`` how
    many of those are whole explanations, which cost what the method costs.
    """

    name: str
    values: tuple[str, ...]
    formula: str
    source: str
    baseline: str
    direction: Direction
    units: str
    range: tuple[float, float | None]
    defaults: Mapping[str, float | int | str]
    does_not_show: str
    forwards_per_item: int
    explanations_per_item: int = 0
    axiom_values: tuple[str, ...] = ()

    def values_for(self, *, complete: bool) -> tuple[str, ...]:
        """Return the keys that the metric gives for a method.

        Args:
            complete: Whether the method has a completeness axiom.
        """
        return self.values + (self.axiom_values if complete else ())

    def direction_of(self, value: str) -> Direction:
        """Return which way a better explanation moves that value; residuals fall."""
        return Direction.LOWER if value in self.axiom_values else self.direction


_ZERO = "zero in normalised space, the mean colour of the training data"
_NO_BASELINE = "none"
_CURVE: dict[str, float | int | str] = {
    "steps": 20,
    "points": 21,
    "score": "softmax probability of the target",
    "order": "upsampled stored map, descending, ties by lowest index",
    "removed_at_step_j": "floor(j * pixels / steps + 1/2)",
    "integration": "trapezoid over the fraction 0 .. 1, both ends included",
}

_DELETION = MetricCard(
    name="deletion",
    values=("deletion_auc",),
    formula=(
        "area under p(target | x with the top-ranked fraction f of pixels replaced by"
        " the baseline), f = 0, 1/20, .. 1"
    ),
    source="Petsiuk, Das and Saenko 2018, RISE, section 4.2",
    baseline=_ZERO,
    direction=Direction.LOWER,
    units="probability",
    range=(0.0, 1.0),
    defaults=_CURVE,
    does_not_show=(
        "Whether the explanation is right for a person. Replaced pixels lie outside"
        " the training data, and confident models score higher whatever the map."
    ),
    forwards_per_item=20,
)

_INSERTION = MetricCard(
    name="insertion",
    values=("insertion_auc",),
    formula=(
        "area under p(target | baseline with the top-ranked fraction f of pixels put"
        " back from x), f = 0, 1/20, .. 1"
    ),
    source="Petsiuk, Das and Saenko 2018, RISE, section 4.2",
    baseline=_ZERO,
    direction=Direction.HIGHER,
    units="probability",
    range=(0.0, 1.0),
    defaults=_CURVE,
    does_not_show=(
        "Whether a smaller region would do; models that are unsure of the whole image"
        " score low whatever the map. Shares its end points with deletion."
    ),
    forwards_per_item=20,
)

_CONFIDENCE = MetricCard(
    name="confidence_retained",
    values=("confidence_retained",),
    formula="p(target | x where the mask keeps, baseline elsewhere) / p(target | x)",
    source="Chattopadhay et al. 2018, Grad-CAM++, section 4.1 (average drop, as ratio)",
    baseline=_ZERO,
    direction=Direction.HIGHER,
    units="ratio; above 1 the masked image is more convincing than the whole",
    range=(0.0, None),
    defaults={"score": "softmax probability of the target"},
    does_not_show=(
        "Whether the discarded part matters too, and which mask size would be best;"
        " a hard-edged mask is itself an unusual image."
    ),
    forwards_per_item=1,
)

_COMPLETENESS = MetricCard(
    name="completeness",
    values=("completeness_energy",),
    axiom_values=("completeness_residual", "completeness_residual_relative"),
    formula=(
        "energy: sum of the map inside the mask / sum of the map, positive part of"
        " both; residual: |sum of the stored map over all pixels - (f(x) -"
        " f(baseline))|, and the same relative to |f(x) - f(baseline)|"
    ),
    source=(
        "energy retention; the residual is that of the axiom in Sundararajan et al."
        " 2017, Axiomatic Attribution for Deep Networks, section 3"
    ),
    baseline=_NO_BASELINE,
    direction=Direction.HIGHER,
    units="fraction of the map's sum",
    range=(0.0, 1.0),
    defaults={"map": "upsampled stored map"},
    does_not_show=(
        "Anything about the model: it says how concentrated the map is for this mask"
        " size. A map that is wrong but peaked scores high. Residuals exist only for"
        " methods whose maps should sum to the change of the output."
    ),
    forwards_per_item=0,
)

_SENSITIVITY = MetricCard(
    name="max_sensitivity",
    values=("max_sensitivity",),
    formula="max over draws d of ||a(x + d) - a(x)||_F / ||a(x)||_F, target held fixed",
    source="Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations",
    baseline=_NO_BASELINE,
    direction=Direction.LOWER,
    units="relative change of the stored native map",
    range=(0.0, None),
    defaults={
        "radius": 0.02,
        "radius_unit": "of the input range, per channel",
        "draws": 10,
        "noise": "uniform, counter-based per item",
    },
    does_not_show=(
        "Faithfulness: a map that ignores the input is perfectly stable. The maximum"
        " of 10 draws is a lower bound of the true maximum."
    ),
    forwards_per_item=10,
    explanations_per_item=10,
)

_LOCALISATION = MetricCard(
    name="localisation",
    values=(
        "localisation_iou",
        "localisation_dice",
        "localisation_precision",
        "localisation_recall",
    ),
    formula=(
        "with M the mask and G the ground truth: |M and G| / |M or G|;"
        " 2 |M and G| / (|M| + |G|); |M and G| / |M|; |M and G| / |G|"
    ),
    source="Jaccard 1912; Dice 1945; per image, then aggregated over images",
    baseline=_NO_BASELINE,
    direction=Direction.HIGHER,
    units="fraction of pixels",
    range=(0.0, 1.0),
    defaults={"empty_ground_truth": "absent", "empty_mask": "0, precision absent"},
    does_not_show=(
        "Whether the model should look there: evidence may lie outside the object."
        " A mask of fixed size cannot match objects of another size."
    ),
    forwards_per_item=0,
)

#: Every metric by the name that an audit uses.
METRICS: dict[str, MetricCard] = {
    card.name: card
    for card in (
        _DELETION,
        _INSERTION,
        _CONFIDENCE,
        _COMPLETENESS,
        _SENSITIVITY,
        _LOCALISATION,
    )
}

# SPDX-License-Identifier: Apache-2.0
"""Cards of metrics that ask whether the network uses what the map marks."""

from collections.abc import Mapping
from typing import Any

from explain.kinds import IMAGE
from explain.metrics.card import (
    BASELINE,
    REMOVALS,
    Direction,
    Family,
    MetricCard,
    Passes,
    whole_removed,
)
from explain.parameters import Parameter

_ZERO = REMOVALS["zero"]
_PROBABILITY = "softmax probability of the target"
_RANKING = "upsampled stored map, descending, ties by lowest index"
_SCORE = Parameter(
    meaning="what of the network's output counts",
    default="logit",
    choices=("logit", "probability"),
)
_STEPS = Parameter(meaning="steps of the curve", default=20, low=1, high=1000)
_CURVE: dict[str, float | int | str] = {
    "points": "steps + 1, both ends included",
    "score": _PROBABILITY,
    "order": _RANKING,
    "removed_at_step_j": "floor(j * pixels / steps + 1/2)",
    "integration": "trapezoid over the fraction 0 .. 1",
}


def _curve_passes(name: str) -> Any:
    """Return what a curve between two known ends costs."""

    def passes(arguments: Mapping[str, Any]) -> tuple[Passes, ...]:
        steps, baseline = arguments["steps"], arguments["baseline"]
        key = f"{name} {steps} {baseline}"
        return (*whole_removed(arguments), Passes(key=key, forwards=steps - 1))

    return passes


def _count_passes(name: str, counted: str) -> Any:
    """Return the cost of as many passes as a parameter says, shared with nobody."""
    return lambda arguments: (Passes(key=name, forwards=arguments[counted]),)


def _kept(arguments: Mapping[str, Any]) -> tuple[Passes, ...]:
    return (Passes(key=f"kept {arguments['baseline']}", forwards=1),)


DELETION = MetricCard(
    name="deletion",
    family=Family.FAITHFULNESS,
    values=("deletion_auc",),
    formula=(
        "area under p(target | x with the top-ranked fraction f of pixels replaced by"
        " the baseline), f = 0, 1/steps, .. 1"
    ),
    source="Petsiuk, Das and Saenko 2018, RISE, section 4.2",
    baseline=_ZERO,
    direction=Direction.LOWER,
    units="probability",
    range=(0.0, 1.0),
    conventions=_CURVE,
    parameters={"steps": _STEPS, "baseline": BASELINE},
    does_not_show=(
        "Whether the explanation is right for a person. Replaced pixels lie outside"
        " the training data, and confident models score higher whatever the map."
    ),
    passes=_curve_passes("deletion"),
)

INSERTION = MetricCard(
    name="insertion",
    family=Family.FAITHFULNESS,
    values=("insertion_auc",),
    formula=(
        "area under p(target | baseline with the top-ranked fraction f of pixels put"
        " back from x), f = 0, 1/steps, .. 1"
    ),
    source="Petsiuk, Das and Saenko 2018, RISE, section 4.2",
    baseline=_ZERO,
    direction=Direction.HIGHER,
    units="probability",
    range=(0.0, 1.0),
    conventions=_CURVE,
    parameters={"steps": _STEPS, "baseline": BASELINE},
    does_not_show=(
        "Whether a smaller region would do; models that are unsure of the whole image"
        " score low whatever the map. Shares its end points with deletion."
    ),
    passes=_curve_passes("insertion"),
)

PIXEL_FLIPPING = MetricCard(
    name="pixel_flipping",
    family=Family.FAITHFULNESS,
    values=("pixel_flipping_aopc",),
    formula=(
        "mean over k = 0 .. L of p(target | x) - p(target | x without its top-ranked"
        " k/L of the fraction)"
    ),
    source=(
        "Bach et al. 2015, On Pixel-Wise Explanations, section 4; Samek et al. 2017,"
        " Evaluating the Visualization, equation 12 (AOPC)"
    ),
    baseline=_ZERO,
    direction=Direction.HIGHER,
    units="drop of probability",
    range=(-1.0, 1.0),
    conventions={"score": _PROBABILITY, "order": _RANKING},
    parameters={
        "steps": _STEPS,
        "fraction": Parameter(
            meaning="fraction of pixels removed at the last step",
            default=0.2,
            above=0.0,
            high=1.0,
        ),
        "baseline": BASELINE,
    },
    does_not_show=(
        "What lies beyond the first fraction, and whether the drop comes from the"
        " evidence or from a picture unlike all training data."
    ),
    passes=_count_passes("pixel_flipping", "steps"),
)

FAITHFULNESS_CORRELATION = MetricCard(
    name="faithfulness_correlation",
    family=Family.FAITHFULNESS,
    values=("faithfulness_correlation",),
    formula=(
        "Pearson correlation over random sets S of cells of sum_S a and"
        " f(x) - f(x with S replaced by the baseline)"
    ),
    source="Bhatt, Weller and Moura 2020, Evaluating and Aggregating, definition 3",
    baseline=_ZERO,
    direction=Direction.HIGHER,
    units="correlation",
    range=(-1.0, 1.0),
    conventions={
        "draws": "counter-based per item, without replacement",
        "attribution": "upsampled stored map, summed over the cells of S",
    },
    parameters={
        "samples": Parameter(meaning="random sets", default=50, low=3, high=10_000),
        "grid": Parameter(
            meaning="cells a side that sets are made of", default=14, low=2, high=1024
        ),
        "share": Parameter(
            meaning="share of the cells in a set", default=0.2, above=0.0, high=0.9
        ),
        "baseline": BASELINE,
        "score": _SCORE,
    },
    does_not_show=(
        "Whether the map's scale is right, and effects that need cells of several sets"
        " together. A network that is not additive cannot reach 1."
    ),
    passes=_count_passes("faithfulness_correlation", "samples"),
)

FAITHFULNESS_ESTIMATE = MetricCard(
    name="faithfulness_estimate",
    family=Family.FAITHFULNESS,
    values=("faithfulness_estimate",),
    formula=(
        "Pearson correlation over the groups G of pixels by rank of sum_G a and"
        " f(x) - f(x with G alone replaced by the baseline)"
    ),
    source=(
        "Alvarez-Melis and Jaakkola 2018, Towards Robust Interpretability, section 4"
    ),
    baseline=_ZERO,
    direction=Direction.HIGHER,
    units="correlation",
    range=(-1.0, 1.0),
    conventions={"order": _RANKING, "groups": "equal parts of the ranking"},
    parameters={
        "steps": Parameter(
            meaning="groups, each removed alone", default=20, low=3, high=1000
        ),
        "baseline": BASELINE,
        "score": _SCORE,
    },
    does_not_show=(
        "How strong the effect is: it says that groups of more attribution matter more,"
        " not by how much. Groups are scattered, which no real picture is."
    ),
    passes=_count_passes("faithfulness_estimate", "steps"),
)

INFIDELITY = MetricCard(
    name="infidelity",
    family=Family.FAITHFULNESS,
    values=("infidelity",),
    formula=(
        "mean over perturbations I of (beta I.a - (f(x) - f(x - I)))^2; square: I takes"
        " a square to the baseline and I.a is the square's sum of the map; noise: I is"
        " normal noise and I.a the sum over pixels and channels;"
        " beta = mean(I.a df) / mean((I.a)^2), or 1"
    ),
    source="Yeh et al. 2019, On the (In)fidelity and Sensitivity, definition 2.1",
    baseline=_ZERO,
    direction=Direction.LOWER,
    units="squared score (logit by default)",
    range=(0.0, None),
    conventions={"draws": "counter-based per item", "map": "upsampled stored map"},
    parameters={
        "samples": Parameter(meaning="perturbations", default=50, low=2, high=10_000),
        "perturbation": Parameter(
            meaning="square for maps that share out the output, noise for gradients",
            default="square",
            choices=("square", "noise"),
        ),
        "side": Parameter(
            meaning="side of a square as a share of the input's shorter side",
            default=0.25,
            above=0.0,
            high=1.0,
        ),
        "noise": Parameter(
            meaning="deviation of the noise, in normalised space",
            default=0.2,
            above=0.0,
        ),
        "normalise": Parameter(
            meaning="whether the map is scaled by the beta that fits best", default=True
        ),
        "baseline": BASELINE,
        "score": _SCORE,
    },
    does_not_show=(
        "Faithfulness across items: it has the scale of the output squared, so that a"
        " network with larger logits has more of it. With beta, the map's own scale."
    ),
    passes=_count_passes("infidelity", "samples"),
)

ROAD = MetricCard(
    name="road",
    kinds=(IMAGE,),
    family=Family.FAITHFULNESS,
    values=("road_morf", "road_lerf", "road_gap"),
    formula=(
        "mean over percentages of the score of x with that share of pixels imputed, the"
        " most relevant first (morf) or the least (lerf); gap = lerf - morf"
    ),
    source="Rong et al. 2022, A Consistent and Efficient Evaluation, section 4",
    baseline=REMOVALS["imputation"],
    direction=Direction.HIGHER,
    directions={"road_morf": Direction.LOWER},
    units="probability, or share of predictions kept",
    range=(0.0, 1.0),
    ranges={"road_gap": (-1.0, 1.0)},
    conventions={
        "order": _RANKING,
        "imputation": "weights 1/6 beside and 1/12 at corners, conjugate gradients",
    },
    parameters={
        "percentages": Parameter(
            meaning="shares of pixels that are imputed",
            default=(0.1, 0.3, 0.5, 0.7, 0.9),
            above=0.0,
            high=0.99,
        ),
        "noise": Parameter(
            meaning="deviation of the noise on imputed pixels, in normalised space",
            default=0.01,
            low=0.0,
        ),
        "score": Parameter(
            meaning="the target's probability, or whether it is still predicted",
            default="probability",
            choices=("probability", "accuracy"),
        ),
    },
    does_not_show=(
        "Small structures: what lies between kept pixels is smooth, and a few kept"
        " pixels of an object can bring much of it back."
    ),
    passes=lambda arguments: (
        Passes(key="road", forwards=2 * len(arguments["percentages"])),
    ),
)

CONFIDENCE = MetricCard(
    name="confidence_retained",
    family=Family.FAITHFULNESS,
    values=("confidence_retained",),
    formula="p(target | x where the mask keeps, baseline elsewhere) / p(target | x)",
    source="Chattopadhay et al. 2018, Grad-CAM++, section 4.1 (average drop, as ratio)",
    baseline=_ZERO,
    direction=Direction.HIGHER,
    units="ratio; above 1 the masked image is more convincing than the whole",
    range=(0.0, None),
    conventions={"score": _PROBABILITY},
    parameters={"baseline": BASELINE},
    does_not_show=(
        "Whether the discarded part matters too, and which mask size would be best;"
        " a hard-edged mask is itself an unusual image."
    ),
    passes=_kept,
)

SUFFICIENCY = MetricCard(
    name="sufficiency",
    family=Family.FAITHFULNESS,
    values=("sufficiency",),
    formula="p(target | x) - p(target | x where the mask keeps, baseline elsewhere)",
    source=(
        "DeYoung et al. 2020, ERASER, section 4.2; of graphs, Fidelity- of probability:"
        " Yuan et al. 2022, Explainability in Graph Neural Networks"
    ),
    baseline=_ZERO,
    direction=Direction.LOWER,
    units="drop of probability",
    range=(-1.0, 1.0),
    conventions={"score": _PROBABILITY},
    parameters={"baseline": BASELINE},
    does_not_show=(
        "Whether less would do as well. Larger masks are more sufficient whatever the"
        " map, so compare at one size."
    ),
    passes=_kept,
)

COMPREHENSIVENESS = MetricCard(
    name="comprehensiveness",
    family=Family.FAITHFULNESS,
    values=("comprehensiveness",),
    formula="p(target | x) - p(target | x without what the mask keeps)",
    source=(
        "DeYoung et al. 2020, ERASER, section 4.2; of graphs, Fidelity+ of probability:"
        " Yuan et al. 2022, Explainability in Graph Neural Networks"
    ),
    baseline=_ZERO,
    direction=Direction.HIGHER,
    units="drop of probability",
    range=(-1.0, 1.0),
    conventions={"score": _PROBABILITY},
    parameters={"baseline": BASELINE},
    does_not_show=(
        "Whether all of the mask is needed. Larger masks are more comprehensive"
        " whatever the map, and evidence that occurs twice hides the drop."
    ),
    passes=lambda arguments: (
        Passes(key=f"without {arguments['baseline']}", forwards=1),
    ),
)

CARDS = (
    DELETION,
    INSERTION,
    PIXEL_FLIPPING,
    FAITHFULNESS_CORRELATION,
    FAITHFULNESS_ESTIMATE,
    INFIDELITY,
    ROAD,
    CONFIDENCE,
    SUFFICIENCY,
    COMPREHENSIVENESS,
)

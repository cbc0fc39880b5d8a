# SPDX-License-Identifier: Apache-2.0
"""Cards of metrics that ask how far the map moves when little else does."""

from collections.abc import Mapping
from typing import Any

from explain.metrics.card import NO_BASELINE, Direction, Family, MetricCard, Passes
from explain.parameters import Parameter

_NOISE: dict[str, float | int | str] = {
    "radius_unit": "of the input range, per channel",
    "noise": "uniform, counter-based per item",
}
_PARAMETERS = {
    "radius": Parameter(
        meaning="largest change of a pixel, as a share of the input range",
        default=0.02,
        above=0.0,
        high=1.0,
    ),
    "samples": Parameter(meaning="draws of noise", default=10, low=1, high=1000),
}
_SOURCE = "Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations"


def _nearby(arguments: Mapping[str, Any]) -> tuple[Passes, ...]:
    radius, samples = arguments["radius"], arguments["samples"]
    return (Passes(key=f"nearby {radius} {samples}", explanations=samples),)


MAX_SENSITIVITY = MetricCard(
    name="max_sensitivity",
    family=Family.SENSITIVITY,
    values=("max_sensitivity",),
    formula="max over draws d of ||a(x + d) - a(x)||_F / ||a(x)||_F, target held fixed",
    source=_SOURCE,
    baseline=NO_BASELINE,
    direction=Direction.LOWER,
    units="relative change of the stored native map",
    range=(0.0, None),
    conventions=_NOISE,
    parameters=_PARAMETERS,
    does_not_show=(
        "Faithfulness: a map that ignores the input is perfectly stable. The maximum"
        " of a few draws is a lower bound of the true maximum."
    ),
    passes=_nearby,
)

AVG_SENSITIVITY = MetricCard(
    name="avg_sensitivity",
    family=Family.SENSITIVITY,
    values=("avg_sensitivity",),
    formula="mean over draws d of ||a(x + d) - a(x)||_F / ||a(x)||_F, target held",
    source=_SOURCE,
    baseline=NO_BASELINE,
    direction=Direction.LOWER,
    units="relative change of the stored native map",
    range=(0.0, None),
    conventions=_NOISE,
    parameters=_PARAMETERS,
    does_not_show=(
        "Faithfulness, and the worst case: a map that seldom jumps has a low mean."
    ),
    passes=_nearby,
)

RELATIVE_STABILITY = MetricCard(
    name="relative_stability",
    family=Family.SENSITIVITY,
    values=(
        "relative_stability_input",
        "relative_stability_output",
        "relative_stability_representation",
    ),
    formula=(
        "max over draws d that keep the prediction of ||(a(x) - a(x + d)) / a(x)||_2 /"
        " max(c, epsilon), with c = ||(x - x') / x||_2 (input), ||h(x) - h(x')||_2 of"
        " the logits (output), ||(l(x) - l(x')) / l(x)||_2 of the last linear layer's"
        " input (representation)"
    ),
    source="Agarwal et al. 2022, Rethinking Stability, equations 2, 3 and 5",
    baseline=NO_BASELINE,
    direction=Direction.LOWER,
    units="ratio of changes; it depends on the sizes of map and input",
    range=(0.0, None),
    conventions={
        **_NOISE,
        "epsilon": 1e-6,
        "kept": "draws under which the predicted class stays",
    },
    parameters={
        **_PARAMETERS,
        "floor": Parameter(
            meaning="least magnitude that a change is divided by, as a share of the"
            " largest magnitude in its map, input or representation",
            default=0.01,
            above=0.0,
            high=1.0,
        ),
    },
    does_not_show=(
        "Faithfulness, and how far the map moves: a small change over a much smaller"
        " one is a large ratio. Numbers of different networks do not compare."
    ),
    passes=lambda arguments: (
        *_nearby(arguments),
        Passes(
            key=f"heard {arguments['radius']} {arguments['samples']}",
            forwards=arguments["samples"] + 1,
        ),
    ),
)

THRESHOLD_STABILITY = MetricCard(
    name="threshold_stability",
    family=Family.SENSITIVITY,
    values=("threshold_stability",),
    formula=(
        "mean over neighbouring fractions p < q of 1, 5, 10 and 20 % of"
        " IoU(mask keeping p, mask keeping q)"
    ),
    source="overlap of neighbouring thresholds, Jaccard 1912",
    baseline=NO_BASELINE,
    direction=Direction.HIGHER,
    units="IoU",
    range=(0.0, 1.0),
    conventions={"masks": "of the policy fixed, so nested", "map": "upsampled"},
    does_not_show=(
        "Stability of the explanation. The masks are nested, so that a map with enough"
        " positive places always gives the mean of p/q, which is 0.4; only a map with"
        " fewer has more. It shows where thresholds stop cutting, and nothing else."
    ),
)

MASK_STABILITY = MetricCard(
    name="mask_stability",
    family=Family.SENSITIVITY,
    values=(
        "mask_stability_iou",
        "mask_stability_precision",
        "mask_stability_correlation",
    ),
    formula=(
        "mean over draws d, with M and M' the maps of x and x + d, k the size of the"
        " policy's mask, m and m' the k highest positive positions of each: iou: |m and"
        " m'| / |m or m'|; precision: average precision of M' against m; correlation:"
        " Pearson of M and M'"
    ),
    source=(
        "Jaccard 1912; average precision as scikit-learn's; the setting of Li 2025, A"
        " Lightweight Explainability Framework, section 7.1"
    ),
    baseline=NO_BASELINE,
    direction=Direction.HIGHER,
    units="IoU; precision; correlation",
    range=(0.0, 1.0),
    ranges={"mask_stability_correlation": (-1.0, 1.0)},
    conventions={**_NOISE, "map": "upsampled stored map", "target": "held fixed"},
    parameters=_PARAMETERS,
    does_not_show=(
        "Faithfulness: a mask that ignores the input is perfectly stable. Large masks"
        " overlap more whatever the map, so compare at one size."
    ),
    passes=_nearby,
)

CARDS = (
    MAX_SENSITIVITY,
    AVG_SENSITIVITY,
    RELATIVE_STABILITY,
    MASK_STABILITY,
    THRESHOLD_STABILITY,
)

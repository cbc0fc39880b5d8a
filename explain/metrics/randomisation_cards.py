# SPDX-License-Identifier: Apache-2.0
"""Cards of metrics that ask whether the map depends on network and class at all.

They explain a copy of the network whose weights are drawn anew; the network itself is
never touched. The copy and its random weights take the memory of two more networks.
"""

from collections.abc import Mapping
from typing import Any

from explain.metrics.card import NO_BASELINE, Direction, Family, MetricCard, Passes
from explain.parameters import Parameter

_SIMILARITY = "Spearman's rank correlation of the stored native maps"
_WEIGHTS: dict[str, float | int | str] = {
    "similarity": _SIMILARITY,
    "weights": "normal with each parameter's own mean and deviation; buffers stay",
    "cascade": "from the output towards the input, in the order of a forward pass",
    "unrandomised": "not counted",
}
_STAGES = Parameter(
    meaning="stages of the cascade, each a further equal share of the layers",
    default=5,
    low=1,
    high=1000,
)
_DIRECTION = Direction.LOWER


def random_key(stage: int, stages: int) -> str:
    """Return the key of the explanation of the network randomised that far."""
    return f"randomised {stage / stages:.6f}"


def _cascade(arguments: Mapping[str, Any]) -> tuple[Passes, ...]:
    stages = arguments["stages"]
    return tuple(
        Passes(key=random_key(stage, stages), explanations=1)
        for stage in range(1, stages + 1)
    )


MPRT = MetricCard(
    name="mprt",
    family=Family.RANDOMISATION,
    values=("mprt", "mprt_full"),
    formula=(
        "mprt: mean over stages of the similarity of the map and that of the network"
        " whose layers are randomised so far; full: that of the last stage, all layers"
    ),
    source="Adebayo et al. 2018, Sanity Checks for Saliency Maps, section 3",
    baseline=NO_BASELINE,
    direction=_DIRECTION,
    units="rank correlation",
    range=(-1.0, 1.0),
    conventions=_WEIGHTS,
    parameters={"stages": _STAGES},
    does_not_show=(
        "Faithfulness: noise passes. Maps of random networks keep the picture's edges,"
        " so a value somewhat above 0 is common. Costs one explanation a stage."
    ),
    passes=_cascade,
)

SMPRT = MetricCard(
    name="smprt",
    family=Family.RANDOMISATION,
    values=("smprt",),
    formula=(
        "mean over stages of the similarity of two maps, each the mean over noisy"
        " inputs: of the network, and of it randomised so far"
    ),
    source="Hedstroem et al. 2024, A Fresh Look at Sanity Checks, section 4.1",
    baseline=NO_BASELINE,
    direction=_DIRECTION,
    units="rank correlation",
    range=(-1.0, 1.0),
    conventions={**_WEIGHTS, "noise": "normal, counter-based per item"},
    parameters={
        "stages": Parameter(
            meaning=_STAGES.meaning, default=3, low=_STAGES.low, high=_STAGES.high
        ),
        "samples": Parameter(meaning="noisy inputs", default=5, low=1, high=1000),
        "noise": Parameter(
            meaning="deviation of the noise, as a share of the input range",
            default=0.05,
            above=0.0,
            high=1.0,
        ),
    },
    does_not_show=(
        "Faithfulness: noise passes. Means of few noisy inputs are still noisy. Costs"
        " samples x (stages + 1) explanations."
    ),
    passes=lambda arguments: (
        Passes(
            key="smprt",
            explanations=arguments["samples"] * (arguments["stages"] + 1),
        ),
    ),
)

EMPRT = MetricCard(
    name="emprt",
    family=Family.RANDOMISATION,
    values=("emprt",),
    formula=(
        "(H(map of the random network) - H(map)) / H(map), H: entropy of the histogram"
        " of the magnitudes, scaled to 0 .. 1"
    ),
    source="Hedstroem et al. 2024, A Fresh Look at Sanity Checks, section 4.2",
    baseline=NO_BASELINE,
    direction=Direction.HIGHER,
    units="relative rise of entropy",
    range=(-1.0, None),
    conventions={**_WEIGHTS, "map": "upsampled stored map"},
    parameters={
        "bins": Parameter(
            meaning="bins of the histogram", default=100, low=2, high=10_000
        )
    },
    does_not_show=(
        "Whether the map is right: it asks only that random weights give a more complex"
        " one. Costs one explanation, shared with the last stage of mprt."
    ),
    passes=lambda _arguments: (Passes(key=random_key(1, 1), explanations=1),),
)

RANDOM_LOGIT = MetricCard(
    name="random_logit",
    family=Family.RANDOMISATION,
    values=("random_logit",),
    formula="similarity of the map and that of another class, drawn for each item",
    source="Sixt, Granz and Landgraf 2020, When Explanations Lie, section 5",
    baseline=NO_BASELINE,
    direction=_DIRECTION,
    units="rank correlation",
    range=(-1.0, 1.0),
    conventions={
        "similarity": _SIMILARITY,
        "class": "any but the target, counter-based per item",
    },
    does_not_show=(
        "Faithfulness; classes that truly share evidence have like maps. The weights"
        " stay as they are. Costs one explanation."
    ),
    passes=lambda _arguments: (Passes(key="random_logit", explanations=1),),
)

CARDS = (MPRT, SMPRT, EMPRT, RANDOM_LOGIT)

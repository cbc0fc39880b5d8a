# SPDX-License-Identifier: Apache-2.0
"""Cards of metrics that look at the map alone: completeness and complexity."""

from explain.metrics.card import (
    KEPT_PERCENTAGES,
    NO_BASELINE,
    Direction,
    Family,
    MetricCard,
)
from explain.parameters import Parameter

_MAP: dict[str, float | int | str] = {"map": "upsampled stored map"}

COMPLETENESS = MetricCard(
    name="completeness",
    family=Family.COMPLETENESS,
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
    baseline=NO_BASELINE,
    direction=Direction.HIGHER,
    units="fraction of the map's sum",
    range=(0.0, 1.0),
    conventions=_MAP,
    does_not_show=(
        "Anything about the model: it says how concentrated the map is for this mask"
        " size. A map that is wrong but peaked scores high. Residuals exist only for"
        " methods whose maps should sum to the change of the output."
    ),
)

RETENTION = MetricCard(
    name="retention",
    family=Family.COMPLETENESS,
    values=(
        "retention_auc",
        *(f"retention_{percent}" for percent in KEPT_PERCENTAGES),
    ),
    formula=(
        "share of the map's positive energy in its k highest positions; auc: area over"
        " k / positions from 0 to 1; 1, 5, 10, 20, 50: at that percentage"
    ),
    source="energy retention over every keep-fraction; Lorenz 1905 for the curve",
    baseline=NO_BASELINE,
    direction=Direction.HIGHER,
    units="fraction of the map's positive sum",
    range=(0.0, 1.0),
    conventions={**_MAP, "integration": "trapezoid over every position"},
    does_not_show=(
        "Anything about the model: a peaked map scores high, right or wrong. It is a"
        " Lorenz curve, so it says the same as sparseness for maps without negatives."
    ),
)

SPARSENESS = MetricCard(
    name="sparseness",
    family=Family.COMPLEXITY,
    values=("sparseness",),
    formula=(
        "Gini index of |a|: 1 - 2 sum_k (|a|_(k) / sum |a|) (n - k + 1/2) / n,"
        " ascending"
    ),
    source=(
        "Chalasani et al. 2020, Concise Explanations, section 3; Hurley and Rickard"
        " 2009"
    ),
    baseline=NO_BASELINE,
    direction=Direction.HIGHER,
    units="Gini index",
    range=(0.0, 1.0),
    conventions=_MAP,
    does_not_show=(
        "Whether the few places are the right ones; a single random pixel is sparsest."
    ),
)

ENTROPY = MetricCard(
    name="entropy",
    family=Family.COMPLEXITY,
    values=("entropy",),
    formula="- sum p ln p, p = |a| / sum |a|",
    source="Bhatt, Weller and Moura 2020, Evaluating and Aggregating, definition 5",
    baseline=NO_BASELINE,
    direction=Direction.LOWER,
    units="nats; at most ln(pixels)",
    range=(0.0, None),
    conventions=_MAP,
    does_not_show=(
        "Whether the places are right; it grows with the input's size, so compare"
        " at one size."
    ),
)

EFFECTIVE_COMPLEXITY = MetricCard(
    name="effective_complexity",
    family=Family.COMPLEXITY,
    values=("effective_complexity",),
    formula="positions with |a| > epsilon max |a| / positions",
    source="Nguyen and Martinez 2020, On Quantitative Aspects, section 3",
    baseline=NO_BASELINE,
    direction=Direction.LOWER,
    units="fraction of positions",
    range=(0.0, 1.0),
    conventions=_MAP,
    parameters={
        "epsilon": Parameter(
            meaning="share of the largest magnitude that counts as nothing",
            default=0.01,
            low=0.0,
            high=1.0,
        )
    },
    does_not_show=(
        "Whether the places are right, and how unequal those above epsilon are."
    ),
)

COMPLETENESS_CARDS = (COMPLETENESS, RETENTION)
COMPLEXITY_CARDS = (SPARSENESS, ENTROPY, EFFECTIVE_COMPLEXITY)

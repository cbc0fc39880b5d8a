# SPDX-License-Identifier: Apache-2.0
"""Cards of the fidelity of subgraphs. No torch here."""

from explain.kinds import GRAPH
from explain.metrics.card import (
    BASELINE,
    REMOVALS,
    Direction,
    Family,
    MetricCard,
    Passes,
)

_SOURCE = (
    "Pope et al. 2019, Explainability Methods for Graph Convolutional Neural Networks"
    " (fidelity); Yuan et al. 2022, Explainability in Graph Neural Networks: A"
    " Taxonomic Survey,"
)
_SHOWS_NO = (
    "How far the score moves: a class that changes at a hair's breadth counts as one"
    " that changes for good"
)

FIDELITY_PLUS = MetricCard(
    name="fidelity_plus",
    kinds=(GRAPH,),
    family=Family.FAITHFULNESS,
    values=("fidelity_plus",),
    formula=(
        "|1(argmax f(x) = target) - 1(argmax f(x without what the mask keeps) ="
        " target)|"
    ),
    source=f"{_SOURCE} Fidelity+ of accuracy",
    baseline=REMOVALS["zero"],
    direction=Direction.HIGHER,
    units="1 where the class changes, else 0",
    range=(0.0, 1.0),
    conventions={"with_probabilities": "comprehensiveness"},
    parameters={"baseline": BASELINE},
    does_not_show=f"{_SHOWS_NO}. Larger masks change more classes whatever the map.",
    passes=lambda arguments: (
        Passes(key=f"class without {arguments['baseline']}", forwards=1),
    ),
)

FIDELITY_MINUS = MetricCard(
    name="fidelity_minus",
    kinds=(GRAPH,),
    family=Family.FAITHFULNESS,
    values=("fidelity_minus",),
    formula=(
        "|1(argmax f(x) = target) - 1(argmax f(x where the mask keeps, baseline"
        " elsewhere) = target)|"
    ),
    source=f"{_SOURCE} Fidelity- of accuracy",
    baseline=REMOVALS["zero"],
    direction=Direction.LOWER,
    units="1 where the class changes, else 0",
    range=(0.0, 1.0),
    conventions={"with_probabilities": "sufficiency"},
    parameters={"baseline": BASELINE},
    does_not_show=f"{_SHOWS_NO}. Larger masks keep more classes whatever the map.",
    passes=lambda arguments: (
        Passes(key=f"class kept {arguments['baseline']}", forwards=1),
    ),
)

CARDS = (FIDELITY_PLUS, FIDELITY_MINUS)

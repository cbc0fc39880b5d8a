# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that are for graphs alone. No torch here."""

from explain.kinds import GRAPH
from explain.methods.card import MethodCard
from explain.parameters import Parameter

_GNN_EXPLAINER = MethodCard(
    name="gnn_explainer",
    title="GNNExplainer",
    formula=(
        "map = sigmoid(m), m minimising -log p(target | gates * sigmoid(m)) + size *"
        " sum(sigmoid(m)) + entropy * mean binary entropy of sigmoid(m), by Adam; units"
        " without gradient at the first step are 0"
    ),
    source=(
        "Ying et al. 2019, GNNExplainer: Generating Explanations for Graph Neural"
        " Networks, section 4.1 and equation 5; the features' mask is left out"
    ),
    map_kind="units",
    signed=False,
    cost="a forward and a backward pass a step",
    does_not_show=(
        "The only subgraph that keeps the class: the mask is one local minimum and"
        " moves little from its random start in few steps. Values rank units; they are"
        " no shares of the score."
    ),
    parameters={
        "steps": Parameter(meaning="steps of Adam", default=100, low=1, high=10000),
        "rate": Parameter(
            meaning="learning rate of Adam", default=0.01, above=0.0, high=10.0
        ),
        "size": Parameter(
            meaning="what an open unit costs", default=0.005, low=0.0, high=1000.0
        ),
        "entropy": Parameter(
            meaning="what an undecided mask costs", default=1.0, low=0.0, high=1000.0
        ),
    },
    needs_layer=False,
    kinds=(GRAPH,),
    batched=True,
)

_GRAPH_ATTENTION = MethodCard(
    name="graph_attention",
    title="Attention of graph layers",
    formula=(
        "map[edge] = mean over layers and heads of the attention weight of the edge,"
        " averaged over its directions; loops that layers add are left out"
    ),
    source=(
        "Velickovic et al. 2018, Graph Attention Networks, equation 3; as the baseline"
        " ATT of Ying et al. 2019, section 5"
    ),
    map_kind="units",
    signed=False,
    cost="one forward pass",
    does_not_show=(
        "What the class depends on: attention is the same for every class, sums to 1"
        " around each node, so that an edge to a node with few neighbours is high, and"
        " says nothing of the value that is attended to."
    ),
    parameters={
        "over": Parameter(
            meaning="how heads and layers are put together",
            default="mean",
            choices=("mean", "max"),
        ),
    },
    needs_layer=False,
    class_specific=False,
    kinds=(GRAPH,),
    batched=True,
)

#: In the order in which they are listed.
GRAPH_CARDS: tuple[MethodCard, ...] = (_GNN_EXPLAINER, _GRAPH_ATTENTION)

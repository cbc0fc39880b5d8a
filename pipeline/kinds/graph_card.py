# SPDX-License-Identifier: Apache-2.0
"""The card of graphs. No torch here."""

from explain.graphs.unit_names import EDGE, NODE
from explain.kinds import GRAPH as NAME
from explain.parameters import Parameter
from pipeline.kinds.card import KindCard

GRAPH = KindCard(
    name=NAME,
    title="graphs",
    map_kind="edges or nodes",
    default_method="gradient_x_input",
    home=("pipeline.kinds.graph", "GraphKind"),
    options={
        "per": Parameter(
            meaning="what is ranked: the edges, whose messages a closed gate stops, or"
            " the nodes, whose features it sets to zero",
            default=EDGE,
            choices=(EDGE, NODE),
        ),
        "remove": Parameter(
            meaning="per node: whether a closed node's edges close as well",
            default=False,
        ),
    },
    suffixes=(".json",),
    baseline="of an edge no message, of a node features of zero",
)

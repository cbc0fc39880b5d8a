# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that exist for tables alone."""

from explain.kinds import TABLE
from explain.methods.card import MethodCard
from explain.parameters import Parameter

_TREE_SHAP = MethodCard(
    name="tree_shap",
    title="Exact Shapley values of trees",
    formula=(
        "map[c] = sum over the numbers e of column c of phi_e, phi_e = sum over S"
        " without e of |S|! (E-|S|-1)!/E! (v(S+e) - v(S)), v(S) the ensemble's output"
        " (margin, or a forest's probability) with the numbers in S from the row and"
        " the others from the baseline (interventional), or from the training rows"
        " that follow x at splits on S (path_dependent)"
    ),
    source=(
        "Lundberg et al. 2020, From local explanations to global understanding with"
        " explainable AI for trees, algorithms 2 and 3, by the shap package"
    ),
    map_kind="columns",
    signed=True,
    cost="one forward pass and a walk through all trees",
    does_not_show=(
        "What a column of categories does as one player: its numbers play for"
        " themselves and are summed after. interventional asks about rows between the"
        " row and the baseline that may not occur; path_dependent stays near the"
        " training rows, and so shares credit among columns that go together. For two"
        " classes values are half the log-odds."
    ),
    parameters={
        "perturbation": Parameter(
            meaning="what stands for an absent number: the baseline row"
            " (interventional), or the training rows of the trees (path_dependent)",
            default="interventional",
            choices=("interventional", "path_dependent"),
        )
    },
    needs_layer=False,
    complete=True,
    kinds=(TABLE,),
    batched=True,
)

_DEEPLIFT = MethodCard(
    name="deeplift",
    title="DeepLIFT, rescale rule",
    formula=(
        "map[c] = sum over the numbers e of column c of m_e (x_e - b_e), m the chain"
        " rule's product in which each activation f has (f(z) - f(z0)) / (z - z0) in"
        " place of its slope, z on the row and z0 on the baseline b; the map sums to"
        " y(x) - y(b), y the score of the target class"
    ),
    source=(
        "Shrikumar et al. 2017, Learning Important Features Through Propagating"
        " Activation Differences, eq. 1 to 3 and section 3.5.1"
    ),
    map_kind="columns",
    signed=True,
    cost="a forward and a backward pass of the row and its baseline",
    does_not_show=(
        "Columns that cancel each other within one unit of the network: the rescale"
        " rule shares the sum alone. Only linear parts and elementwise activations"
        " have a rule; other networks are refused."
    ),
    needs_layer=False,
    complete=True,
    kinds=(TABLE,),
    batched=True,
)

#: In the order in which they are listed.
TABLE_CARDS: tuple[MethodCard, ...] = (_TREE_SHAP, _DEEPLIFT)

# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that read attention weights."""

from explain.methods.card import MethodCard
from explain.parameters import Parameter

_WHERE = (
    "Reads all blocks of a ViT or DeiT; of a Swin the blocks of the last stage, if"
    " one window covers its grid (7 x 7 places at 224 x 224), and nothing before it."
)

_ROLLOUT = MethodCard(
    name="attention_rollout",
    title="Attention rollout",
    formula=(
        "rollout = product over blocks, the last leftmost, of (A_l + I) / 2, A_l the"
        " attention weights averaged over heads;  map = mean of the rows of the tokens"
        " that the head reads, at the places"
    ),
    source=(
        "Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers, section"
        " 3, eq. 1"
    ),
    map_kind="tokens",
    signed=False,
    cost="one forward pass, and the weights made again from queries and keys",
    does_not_show=(
        "Why one class and not another: the class plays no part, every class has the"
        " same map. Nor what values, MLPs and the head make of what is attended to. "
        + _WHERE
    ),
    needs_attention=True,
    class_specific=False,
)

_GENERIC = MethodCard(
    name="generic_attention",
    title="Generic attention explainability",
    formula=(
        "R = I; for each block R <- R + A_l R, A_l = mean over heads of ReLU(dy/dA x"
        " A), y the logit of the target class;  map = mean of the rows of R - I of the"
        " tokens that the head reads, at the places"
    ),
    source=(
        "Chefer, Gur and Wolf 2021, Generic Attention-model Explainability for"
        " Interpreting Bi-Modal and Encoder-Decoder Transformers, eq. 5 and 6"
    ),
    map_kind="tokens",
    signed=False,
    cost=(
        "about two and a half forward passes: one forward, one backward without"
        " weights' gradients, and the weights made again from queries and keys"
    ),
    does_not_show=(
        "Evidence against the class: negative products are left out in every head. "
        + _WHERE
    ),
    needs_attention=True,
)

_LEGRAD = MethodCard(
    name="legrad",
    title="LeGrad",
    formula=(
        "map = mean over blocks l, heads and queries of ReLU(d s_l / dA_l), s_l the"
        " target's logit that the network's own head gives of the mean token behind"
        " block l, at the places"
    ),
    source=(
        "Bousselham et al. 2024, LeGrad: An Explainability Method for Vision"
        " Transformers via Feature Formation Sensitivity, section 3.2"
    ),
    map_kind="tokens",
    signed=False,
    cost="about two forward passes: one forward, and one backward within each block",
    does_not_show=(
        "What one block passes on to the next: each is asked alone, by a head that was"
        " trained on the last one. " + _WHERE
    ),
    parameters={
        "pooling": Parameter(
            meaning=(
                "what the head is given of a block: mean, the mean of all its tokens"
                " in place of each (as the authors' code does); or head, the tokens"
                " as they are, of which the head reads its own (the class token)"
            ),
            default="mean",
            choices=("mean", "head"),
        )
    },
    needs_attention=True,
)

#: In the order in which they are listed.
ATTENTION_CARDS: tuple[MethodCard, ...] = (_ROLLOUT, _GENERIC, _LEGRAD)

# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods of texts."""

from explain.kinds import TEXT
from explain.methods.card import MethodCard
from explain.parameters import Parameter

_WORDS = (
    " Numbers of tokens are summed by word; special tokens and padding have no place"
    " in the map, though much attention may end in them."
)

_ROLLOUT = MethodCard(
    name="text_rollout",
    title="Attention rollout of texts",
    formula=(
        "rollout = product over blocks, the last leftmost, of (A_l + I) / 2, A_l the"
        " attention weights averaged over heads;  map = mean of the rows of the tokens"
        " that the head reads, summed over the tokens of each word"
    ),
    source=(
        "Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers, section"
        " 3, eq. 1"
    ),
    map_kind="words",
    signed=False,
    cost=(
        "about one and a half forward passes: the weights are made again from queries"
        " and keys, and a step back finds which tokens the head reads"
    ),
    does_not_show=(
        "Why one class and not another: the class plays no part, every class has the"
        " same map. Nor what values, MLPs and the head make of what is attended to."
        + _WORDS
    ),
    needs_layer=False,
    class_specific=False,
    kinds=(TEXT,),
    batched=True,
)

_GENERIC = MethodCard(
    name="text_generic_attention",
    title="Generic attention explainability of texts",
    formula=(
        "R = I; for each block R <- R + A_l R, A_l = mean over heads of ReLU(dy/dA x"
        " A), y the logit of the target class;  map = mean of the rows of R - I of the"
        " tokens that the head reads, summed over the tokens of each word"
    ),
    source=(
        "Chefer, Gur and Wolf 2021, Generic Attention-model Explainability for"
        " Interpreting Bi-Modal and Encoder-Decoder Transformers, eq. 5 and 6"
    ),
    map_kind="words",
    signed=False,
    cost=(
        "about two and a half forward passes: one forward, one backward without"
        " weights' gradients, and the weights made again from queries and keys"
    ),
    does_not_show=(
        "Evidence against the class: negative products are left out in every head."
        + _WORDS
    ),
    needs_layer=False,
    kinds=(TEXT,),
    batched=True,
)

_HIERARCHY = MethodCard(
    name="text_hierarchy",
    title="Occlusion of sentences, then of their words",
    formula=(
        "f[s] = p(text) - p(text without sentence s);  S = the fewest sentences that"
        " make up the share of the positive f;  map[w] = p(text) - p(text without word"
        " w) of words in S, else 0"
    ),
    source=(
        "Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks,"
        " section 4.2, from sentences to words"
    ),
    map_kind="words",
    signed=True,
    cost="one forward pass a sentence, and one a word of the kept sentences",
    does_not_show=(
        "Words of sentences that were not kept, whatever they say; what several words"
        " do together; and what a word does where another says the same, because then"
        " nothing falls."
    ),
    parameters={
        "share": Parameter(
            meaning="share of the sentences' positive falls that is looked into",
            default=0.8,
            above=0.0,
            high=1.0,
        )
    },
    needs_layer=False,
    kinds=(TEXT,),
)

#: In the order in which they are listed.
TEXT_CARDS: tuple[MethodCard, ...] = (_ROLLOUT, _GENERIC, _HIERARCHY)

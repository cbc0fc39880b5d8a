# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that only sequences have. No torch here."""

from explain.kinds import SEQUENCE
from explain.methods.card import MethodCard
from explain.parameters import Parameter

_HIDDEN_STATE = MethodCard(
    name="hidden_state_gradient",
    title="Gradient x hidden state",
    formula=(
        "map[t] = sum over units of (s_t - s_(t-1)) * d y / d s_t, with y the logit of"
        " the target class and s_t what the cells hand on after step t (h of a GRU, h"
        " and c of an LSTM, of every layer and direction); share whole: s_t itself in"
        " place of the difference"
    ),
    source=(
        "Li 2025, A Lightweight Explainability Framework for Neural Networks, on"
        " recurrent networks; as a first-order term: Ancona et al. 2018, Towards Better"
        " Understanding of Gradient-Based Attribution Methods, section 2"
    ),
    map_kind="steps",
    signed=True,
    cost="one forward pass step by step and one back through time",
    does_not_show=(
        "Which feature of a step it was, and what a saturated cell hides. With share"
        " whole a step counts for all that came before it, so that the steps after the"
        " one that matters look as important."
    ),
    parameters={
        "share": Parameter(
            meaning="what a step answers for: change is what it changed in the state,"
            " whole is the state after it",
            default="change",
            choices=("change", "whole"),
        )
    },
    needs_layer=False,
    kinds=(SEQUENCE,),
    batched=True,
)

_HIERARCHICAL_OCCLUSION = MethodCard(
    name="hierarchical_occlusion",
    title="Occlusion by segments and steps",
    formula=(
        "map[t] = d_s * r_t / sum of r over the segment s of t, with d_s = p(x) - p(x"
        " without segment s), p the softmax probability of the target class, r_t ="
        " max(0, sign(d_s) (p(x) - p(x without step t))) in the segments of the highest"
        " d_s, and r = 1 in the others"
    ),
    source=(
        "Li 2025, A Lightweight Explainability Framework for Neural Networks, on long"
        " sequences; occlusion: Zeiler and Fergus 2014, Visualizing and Understanding"
        " Convolutional Networks, section 4.2"
    ),
    map_kind="steps",
    signed=True,
    cost="a forward pass a segment, one a step of each refined segment, and one",
    does_not_show=(
        "Single steps of the segments that are not refined: their steps share the"
        " segment's value evenly. Nor evidence that is there twice."
    ),
    parameters={
        "segment": Parameter(
            meaning="steps of a segment; 0 stands for the square root of the sequence's"
            " length",
            default=0,
            low=0,
        ),
        "refine": Parameter(
            meaning="the fraction of segments that are looked at step by step, at least"
            " one",
            default=0.25,
            above=0,
            high=1,
        ),
    },
    needs_layer=False,
    kinds=(SEQUENCE,),
)

#: In the order in which they are listed.
SEQUENCE_CARDS: tuple[MethodCard, ...] = (_HIDDEN_STATE, _HIERARCHICAL_OCCLUSION)

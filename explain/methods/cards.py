# SPDX-License-Identifier: Apache-2.0
"""What each method computes, in words and without torch."""

from explain.graphs.cards import GRAPH_CARDS
from explain.methods.attention_cards import ATTENTION_CARDS
from explain.methods.cam_cards import CAM_CARDS
from explain.methods.card import MethodCard
from explain.methods.perturbation_cards import PERTURBATION_CARDS
from explain.methods.pixel_cards import PIXEL_CARDS
from explain.sequences.cards import SEQUENCE_CARDS
from explain.tables.cards import TABLE_CARDS
from explain.text.cards import TEXT_CARDS

__all__ = ["METHODS", "MethodCard"]

#: Every method by the name that an audit uses.
METHODS: dict[str, MethodCard] = {
    card.name: card
    for card in (
        *CAM_CARDS,
        *ATTENTION_CARDS,
        *PIXEL_CARDS,
        *PERTURBATION_CARDS,
        *TEXT_CARDS,
        *SEQUENCE_CARDS,
        *GRAPH_CARDS,
        *TABLE_CARDS,
    )
}

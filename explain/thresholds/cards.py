# SPDX-License-Identifier: Apache-2.0
"""What each threshold policy keeps, in words and without torch."""

from explain.thresholds import cut_cards, learned_cards, search_cards, shape_cards
from explain.thresholds.card import PolicyCard

__all__ = ["POLICIES", "PolicyCard"]

#: Every policy by the name that an audit uses.
POLICIES: dict[str, PolicyCard] = {
    card.name: card
    for card in (
        *cut_cards.CARDS,
        *search_cards.CARDS,
        *shape_cards.CARDS,
        *learned_cards.CARDS,
    )
}

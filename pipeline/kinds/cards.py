# SPDX-License-Identifier: Apache-2.0
"""Every kind of items beside images, by the name that audits use. No torch here."""

from pipeline.kinds.card import KindCard
from pipeline.kinds.graph_card import GRAPH
from pipeline.kinds.sequence_card import SEQUENCE_CARD
from pipeline.kinds.table_card import TABLE_CARD
from pipeline.kinds.text_card import TEXT_CARD

__all__ = ["KIND_CARDS", "KindCard"]

_CARDS: tuple[KindCard, ...] = (TEXT_CARD, SEQUENCE_CARD, GRAPH, TABLE_CARD)

#: In the order in which they are listed.
KIND_CARDS: dict[str, KindCard] = {card.name: card for card in _CARDS}

# SPDX-License-Identifier: Apache-2.0
"""What each threshold policy keeps, in words and without torch."""

from explain.parameters import Parameter
from explain.thresholds.card import PolicyCard

__all__ = ["POLICIES", "PolicyCard"]

_FIXED = PolicyCard(
    name="fixed",
    rule=(
        "The ceil(keep * n) positions with the highest positive attribution; equal"
        " values by lowest index; zeros are never kept."
    ),
    source="Li 2025, A Lightweight Explainability Framework, threshold simplification",
    parameters={
        "keep": Parameter(
            meaning="the fraction of positions to keep", default=0.10, above=0, high=1
        )
    },
)

#: Every policy by the name that an audit uses.
POLICIES: dict[str, PolicyCard] = {card.name: card for card in (_FIXED,)}

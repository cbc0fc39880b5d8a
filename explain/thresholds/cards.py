# SPDX-License-Identifier: Apache-2.0
"""What each threshold policy keeps, in words and without torch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCard:
    """A policy's definition and its parameters with their meaning."""

    name: str
    rule: str
    parameters: Mapping[str, str]


_FIXED = PolicyCard(
    name="fixed",
    rule=(
        "The ceil(keep * n) positions with the highest positive attribution; equal"
        " values by lowest index; zeros are never kept."
    ),
    parameters={"keep": "fraction of positions to keep, above 0 and up to 1"},
)

#: Every policy by the name that an audit uses.
POLICIES: dict[str, PolicyCard] = {card.name: card for card in (_FIXED,)}

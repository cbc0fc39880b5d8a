# SPDX-License-Identifier: Apache-2.0
"""The definition card of a threshold policy. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from explain.kinds import KINDS
from explain.parameters import Parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCard:
    """A policy's definition and its parameters with their meaning.

    Attributes:
        name: The name that an audit uses.
        rule: What is kept, in one or two sentences.
        source: Paper and section, or the standard rule's usual citation.
        parameters: What can be set, with meaning and default.
        cost: In forward passes an item beside the map, for people.
        kinds: The kinds of items whose maps it may cut.
    """

    name: str
    rule: str
    source: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    cost: str = "none"
    kinds: tuple[str, ...] = KINDS

    def document(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        declared = {name: each.document() for name, each in self.parameters.items()}
        return facts | {"parameters": declared}

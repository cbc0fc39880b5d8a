# SPDX-License-Identifier: Apache-2.0
"""The card of a kind of items: what an audit says about it. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from explain.parameters import Parameter

#: Keys of `model` that name files which a network needs beside its weights.
MODEL_FILES = ("tokenizer", "encoding", "config")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCard:
    """What an audit of a kind must and may say.

    Attributes:
        name: As `data.kind` names it.
        title: For people, in the plural.
        map_kind: What the units are, as artifacts name it.
        default_method: The method where the audit names none.
        options: What `data.options` may hold.
        suffixes: Files that are items, of a folder or named by a manifest.
        column: The role of `data.columns` that makes the rows of a table the items;
            None where rows of .jsonl alone are.
        files: Keys of `model` that name further files which the network needs; an
            audit must name each of them unless the architecture brings its own.
        home: Module and class, imported when first asked for.
        even: Whether every item has the same units, so that a batch can be measured
            at once.
        baseline: What a unit shows whose gate is closed, in words.
    """

    name: str
    title: str
    map_kind: str
    default_method: str
    home: tuple[str, str]
    options: Mapping[str, Parameter] = field(default_factory=dict)
    suffixes: tuple[str, ...] = ()
    column: str | None = None
    files: tuple[str, ...] = ()
    even: bool = False
    baseline: str = "zero"

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The options, by the name that all cards have for them."""
        return self.options

    def document(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "map_kind": self.map_kind,
            "default_method": self.default_method,
            "baseline": self.baseline,
            "suffixes": list(self.suffixes),
            "column": self.column,
            "files": list(self.files),
            "parameters": {name: one.document() for name, one in self.options.items()},
        }

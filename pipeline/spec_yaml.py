# SPDX-License-Identifier: Apache-2.0
"""YAML as plain data, with the line of every key.

A strict reading: no aliases (a few lines could otherwise stand for gigabytes), no
custom tags, no key twice, and none of YAML 1.1's surprises, by which `010` is eight,
`12:30` is 750 and `1e-3` is text.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

#: Keys and indices from the top of the document.
Place = tuple[str | int, ...]

MAX_CHARACTERS = 1_000_000
_MAX_DEPTH = 20

_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "map", "seq"})
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]{0,29})")
_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_TRUE = frozenset({"yes", "true", "on"})
#: Neither a database nor a JSON document can hold these in text.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class YamlError(Exception):
    """The text cannot be read as YAML at all.

    Attributes:
        line: Where, counted from 1.
        sentence: What is wrong.
    """

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Document:
    """A document as plain data.

    Attributes:
        data: Dictionaries, lists and scalars.
        lines: The line of each key and list item, counted from 1.
        problems: What is wrong with single keys and values, by line.
    """

    data: Any
    lines: Mapping[Place, int]
    problems: list[tuple[int, str]]

    def line_of(self, place: Place) -> int:
        """Return the line of the nearest place that has one."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_document(text: str) -> Document:
    """Return the text as plain data with line numbers.

    Raises:
        YamlError: not YAML, more than one document, aliases, or out of bounds.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(1, "the file has more than a million characters")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = str(exc.problem or exc.context).replace("\n", " ")
        raise YamlError(
            mark.line + 1 if mark else 1, f"not valid YAML: {problem}"
        ) from exc
    finally:
        loader.dispose()
    builder = _Builder()
    data = None if node is None else builder.build(node, ())
    return Document(data, builder.lines, builder.problems)


class _Loader(yaml.SafeLoader):
    """Composes nodes, refusing aliases and depths that no spec has."""

    def __init__(self, text: str) -> None:
        self._depth = 0
        try:
            super().__init__(text)
        except yaml.reader.ReaderError as exc:
            line = text.count("\n", 0, exc.position) + 1
            raise YamlError(line, "a character in this line cannot be in YAML") from exc

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Return the next node."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise YamlError(line, "aliases (*name) are not read here; write it out")
        if self._depth >= _MAX_DEPTH:
            raise YamlError(line, f"more than {_MAX_DEPTH} levels deep")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


@dataclass(slots=True)
class _Builder:
    """Turns nodes into data, noting lines and problems on the way."""

    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def build(self, node: Node, place: Place) -> Any:
        if node.tag.removeprefix(_TAG) not in _TAGS:
            self._problem(node, f"the tag {node.tag!r} is not read here")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        if isinstance(node, SequenceNode):
            values = []
            for index, item in enumerate(node.value):
                self.lines[*place, index] = item.start_mark.line + 1
                values.append(self.build(item, (*place, index)))
            return values
        return self._scalar(cast("ScalarNode", node))

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._problem(key_node, "a key must be plain text")
                continue
            key = key_node.value
            if key_node.tag == f"{_TAG}merge":
                self._problem(key_node, "merging with << is not read here")
            elif _UNSTORABLE.search(key):
                self._problem(key_node, "a key holds a character that text cannot hold")
            elif key in values:
                first = self.lines[*place, key]
                self._problem(
                    key_node, f"the key {key!r} is given twice (first in line {first})"
                )
            else:
                self.lines[*place, key] = line
                values[key] = self.build(value_node, (*place, key))
        return values

    def _scalar(self, node: ScalarNode) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        if _UNSTORABLE.search(text):
            self._problem(node, "a text holds a character that text cannot hold")
            return ""
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in _TRUE
        if kind in {"int", "float"} or (kind == "str" and _is_exponent(node)):
            return self._number(node, text)
        return text

    def _number(self, node: Node, text: str) -> int | float | str:
        """Return a decimal number; other notations stay text and are refused later."""
        if _INTEGER.fullmatch(text):
            return int(text)
        try:
            value = float(text)
        except ValueError:
            # .inf and .nan end here as well.
            return text
        if _INTEGER.fullmatch(text.replace("_", "")) or text.lstrip("+-").isdigit():
            return text
        if not math.isfinite(value):
            self._problem(node, f"the number {text} is too large")
            return 0.0
        return value

    def _problem(self, node: Node, sentence: str) -> None:
        self.problems.append((node.start_mark.line + 1, sentence))


def _is_exponent(node: ScalarNode) -> bool:
    """Return whether a plain scalar is a number that YAML 1.1 takes for text."""
    return node.style is None and _EXPONENT.fullmatch(node.value) is not None

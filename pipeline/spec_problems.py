# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a spec, in sentences that say how to mend it."""

import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pipeline.spec import AuditSpec
from pipeline.spec_yaml import Document, Place

_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}
_LENGTHS = frozenset({"too_short", "too_long", "string_too_short", "string_too_long"})


def sentences(
    errors: Iterable[ErrorDetails], document: Document
) -> list[tuple[int, str]]:
    """Return one sentence with its line for each place that is wrong."""
    places: dict[Place, list[ErrorDetails]] = {}
    for error in errors:
        places.setdefault(_place(error, document.data), []).append(error)
    return [
        (document.line_of(place), _sentence(place, found, document))
        for place, found in places.items()
        if not _said_below(place, places)
    ]


def _place(error: ErrorDetails, data: Any) -> Place:
    """Return where in the document an error is.

    Pydantic also names the member of a union that it tried; such parts are left out.
    """
    place: list[str | int] = []
    absent = error["type"] == "missing"
    parts = error["loc"][:-1] if absent else error["loc"]
    for part in parts:
        here = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if here:
            place.append(part)
            data = data[part]
    return (*place, error["loc"][-1]) if absent else tuple(place)


def _said_below(place: Place, places: Mapping[Place, list[ErrorDetails]]) -> bool:
    """Return whether a list's own error only repeats that of one of its items."""
    kinds = {error["type"] for error in places[place]}
    return all(kind.endswith("_type") for kind in kinds) and any(
        len(other) > len(place) and other[: len(place)] == place for other in places
    )


def _sentence(place: Place, errors: list[ErrorDetails], document: Document) -> str:
    # A rule that the right kind of value broke says more than a wrong kind does.
    telling = [error for error in errors if not error["type"].endswith("_type")]
    error = (telling or errors)[0]
    if error["type"] == "missing":
        return _missing(place)
    if error["type"] == "extra_forbidden":
        return _unknown(place)
    broken = _broken_rule(place, error) or _wrong_kind(
        _annotation(place), _value_at(document.data, place)
    )
    return f"{_dotted(place)}: {broken}."


def _broken_rule(place: Place, error: ErrorDetails) -> str | None:
    """Return which rule a value of the right kind breaks, None if it is none."""
    kind, context, got = error["type"], error.get("ctx", {}), _got(error["input"])
    if kind == "value_error":
        return str(context["error"])
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"must be {word} {context[key]}, got {got}"
    if kind == "literal_error":
        return _choice(_annotation(place), error["input"])
    if kind == "string_pattern_mismatch":
        return f"expected {_pattern(place)}, got {got}"
    return f"{_length(context, kind)}, got {got}" if kind in _LENGTHS else None


def _wrong_kind(annotation: Any, got: Any) -> str:
    members = _members(annotation)
    if any(get_origin(member) is Literal for member in members):
        return _choice(annotation, got)
    hint = ""
    if isinstance(got, bool | int | float) and str in members and int not in members:
        hint = "; put it in quotes"
    return f"expected {_expected(annotation)}, got {_got(got)}{hint}"


def _missing(place: Place) -> str:
    *parent, key = place
    if not parent and _is_section(_annotation(place)):
        return f"the section {key!r} is missing."
    where = f" in the section {_dotted(tuple(parent))!r}" if parent else ""
    return f"the key {key!r} is missing{where}; it says: {_meaning(place)}"


def _unknown(place: Place) -> str:
    *parent, key = place
    section = _annotation(tuple(parent))
    model = next((m for m in _members(section) if _is_section(m)), AuditSpec)
    known = list(model.model_fields)
    near = get_close_matches(str(key), known, n=1, cutoff=0.5)
    where = f"in the section {_dotted(tuple(parent))!r}" if parent else "at the top"
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
    return f"there is no key {key!r} {where}; {hint}"


def _choice(annotation: Any, got: Any) -> str:
    choices = [
        value
        for member in _members(annotation)
        if get_origin(member) is Literal
        for value in get_args(member)
    ]
    near = get_close_matches(str(got), [str(c) for c in choices], n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}" if near else ""
    listed = ", ".join(str(choice) for choice in choices)
    if int in _members(annotation):
        return f"expected a whole number, or {listed}, got {_got(got)}{hint}"
    return f"expected one of {listed}, got {_got(got)}{hint}"


def _length(context: Mapping[str, Any], kind: str) -> str:
    unit = "characters" if kind.startswith("string") else "values"
    if "min_length" in context:
        return f"expected at least {context['min_length']} {unit}"
    return f"expected at most {context['max_length']} {unit}"


_PATTERNS = {
    ("audit",): (
        "a name of ASCII letters, digits, spaces, dots, dashes and underscores that "
        "begins with a letter or digit"
    ),
    ("model", "sha256"): "64 hexadecimal digits in lower case",
    ("run", "device"): "auto, cpu, cuda, cuda:N or mps",
}


def _pattern(place: Place) -> str:
    return _PATTERNS.get(tuple(str(part) for part in place), "another form")


def _meaning(place: Place) -> str:
    """Return what the reference says of a key."""
    model: type[BaseModel] = AuditSpec
    for part in place[:-1]:
        model = next(
            m
            for m in _members(model.model_fields[str(part)].annotation)
            if _is_section(m)
        )
    described = model.model_fields[str(place[-1])].description
    return described or f"{_expected(_annotation(place))}."


def _annotation(place: Place) -> Any:
    """Return the declared type of the place, None where nothing is declared."""
    current: Any = AuditSpec
    for part in place:
        found: Any = None
        for member in _members(current):
            if _is_section(member) and part in member.model_fields:
                found = member.model_fields[part].annotation
            elif get_origin(member) in {list, tuple}:
                found = get_args(member)[0]
            elif get_origin(member) is dict:
                found = get_args(member)[1]
        current = found
    return current


def _members(annotation: Any) -> list[Any]:
    """Return the members of a union, or the type itself."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in {Union, types.UnionType}:
        return [one for part in get_args(annotation) for one in _members(part)]
    return [annotation]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _expected(annotation: Any) -> str:
    return ", or ".join(_word(member) for member in _members(annotation))


def _word(member: Any) -> str:
    if member in _WORDS:
        return _WORDS[member]
    origin, arguments = get_origin(member), get_args(member)
    if origin is Literal:
        return " or ".join(str(value) for value in arguments)
    if origin is list:
        return f"a list of {_plural(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)} {_plural(arguments[0])}"
    return "a section of `key: value` lines"


def _plural(member: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(member, "values")


def _got(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "a section"


def _value_at(data: Any, place: Place) -> Any:
    for part in place:
        data = data[part]
    return data


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")

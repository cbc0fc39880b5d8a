# SPDX-License-Identifier: Apache-2.0
"""Parameters of methods and policies: declared once, checked in one place. No torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explain.errors import InvalidParameterError, nearest

#: What a parameter's value can be, as it comes from an audit's YAML.
Value = bool | int | float | str | tuple[float, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter: its meaning, its default and what it may be.

    Attributes:
        meaning: One clause for the reference and for error messages.
        default: Its value when none is given; its type is the parameter's type. A
            default of None makes a parameter that must be given.
        kind: Type of a parameter without a default; ``object`` is a document, which
            an audit names by the path of its file.
        low: Least value allowed.
        high: Greatest value allowed.
        above: Value that must be exceeded.
        choices: The words allowed, for a text.
    """

    meaning: str
    default: Value = None
    kind: type = float
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def type(self) -> type:
        """The type that values have."""
        return self.kind if self.default is None else type(self.default)

    def checked(self, owner: str, name: str, value: Any) -> Value:
        """Return the value in the parameter's type.

        Raises:
            InvalidParameterError: it has another type, or lies outside the range.
        """
        converted = self._converted(value)
        if converted is None or not self._allowed(converted):
            raise InvalidParameterError(
                f"{owner}: expected {name} to be {self.range_in_words()}, got"
                f" {value!r}; it is {self.meaning}."
            )
        return converted

    def document(self) -> dict[str, Any]:
        """Return the parameter as JSON values."""
        default = self.default
        return {
            "meaning": self.meaning,
            "default": list(default) if isinstance(default, tuple) else default,
            "range": self.range_in_words(),
        }

    def range_in_words(self) -> str:
        """Return what the parameter may be, for people."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        nouns = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            str: "a text",
            tuple: "a list of numbers",
            object: "a document",
        }
        words = [nouns[self.type]]
        if self.above is not None:
            words.append(f"above {self.above:g}")
        if self.low is not None:
            words.append(f"of at least {self.low:g}")
        if self.high is not None:
            words.append(f"up to {self.high:g}")
        return " ".join(words[:2]) + ("" if len(words) < 3 else f" and {words[2]}")

    def _converted(self, value: Any) -> Value:
        kind = self.type
        if kind is bool or isinstance(value, bool):
            return value if kind is bool and isinstance(value, bool) else None
        if kind is int:
            return value if isinstance(value, int) else None
        if kind is float:
            return float(value) if isinstance(value, int | float) else None
        if kind is tuple:
            numbers = isinstance(value, Sequence) and not isinstance(value, str)
            if not numbers or not all(
                isinstance(part, int | float) and not isinstance(part, bool)
                for part in value
            ):
                return None
            return tuple(float(part) for part in value)
        return value if kind is object or isinstance(value, str) else None

    def _allowed(self, value: Value) -> bool:
        if self.type is object:
            return True
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if isinstance(value, tuple):
            return len(value) > 0 and all(self._in_range(part) for part in value)
        return isinstance(value, bool) or (value is not None and self._in_range(value))

    def _in_range(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )


def resolved(
    owner: str, declared: Mapping[str, Parameter], given: Mapping[str, Any]
) -> dict[str, Value]:
    """Return every declared parameter's value: given and checked, or the default.

    Args:
        owner: What the parameters belong to, for messages: ``policy 'fixed'``.
        declared: The parameters by name.
        given: Values by name; one that is None counts as not given.

    Raises:
        InvalidParameterError: one is unknown, missing, of a wrong type or out of range.
    """
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in declared:
            near = nearest(name, declared)
            hint = f"did you mean {near[0]!r}" if near else _choices(declared)
            raise InvalidParameterError(f"{owner} has no parameter {name!r}; {hint}.")
    values: dict[str, Value] = {}
    for name, parameter in declared.items():
        if name in given:
            values[name] = parameter.checked(owner, name, given[name])
        elif parameter.default is None:
            raise InvalidParameterError(
                f"{owner} needs {name}: {parameter.meaning},"
                f" {parameter.range_in_words()}."
            )
        else:
            values[name] = parameter.default
    return values


def _choices(declared: Mapping[str, Parameter]) -> str:
    return f"it takes {', '.join(declared)}" if declared else "it takes none"

# SPDX-License-Identifier: Apache-2.0
"""What a search may choose: method, layer, policy, input size and precision."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from explain.errors import InvalidParameterError, UnknownNameError
from explain.methods.cards import METHODS
from explain.optimise.arm import Arm
from explain.optimise.digest import digest_of
from explain.parameters import Value

#: What a network may compute in.
PRECISIONS = ("float32", "bfloat16")

_SCHEMA = "affidavit.choice/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to explain: all that is needed to run it.

    Attributes:
        method: As in ``METHODS``.
        layer: The tapped layer, or ``auto``; None for methods that tap none.
        policy: The threshold policy with its parameters.
        size: Height and width of the input.
        precision: One of ``PRECISIONS``.
    """

    method: str
    layer: str | None
    policy: Arm
    size: tuple[int, int]
    precision: str = "float32"

    def __post_init__(self) -> None:
        _require_method(self.method)
        if METHODS[self.method].needs_layer == (self.layer is None):
            raise InvalidParameterError(
                f"Expected a layer where the method taps one and None elsewhere, got"
                f" {self.layer!r} for method {self.method!r}."
            )
        _require_input(self.size, self.precision)

    @property
    def label(self) -> str:
        """The choice in a line, for people."""
        place = "" if self.layer is None else f" at {self.layer}"
        height, width = self.size
        return (
            f"{self.method}{place}, {self.policy.label}, {height} x {width},"
            f" {self.precision}"
        )

    def document(self) -> dict[str, Any]:
        """Return the choice as plain values."""
        return {
            "schema": _SCHEMA,
            "method": self.method,
            "layer": self.layer,
            "policy": self.policy.document(),
            "size": list(self.size),
            "precision": self.precision,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the document as JSON with sorted keys, in hexadecimal."""
        return digest_of(self.document())


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The numbers that a parameter may have, searched to three digits."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low <= 0):
            raise InvalidParameterError(
                f"Expected low <= high{', both above 0,' if self.log else ''} got"
                f" {self.low} and {self.high}."
            )

    def rounded(self, value: float) -> float:
        """Return the value to three digits, within the range."""
        return min(max(float(f"{value:.3g}"), self.low), self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpace:
    """A policy with the values that its parameters may have.

    Attributes:
        policy: As in ``POLICIES``.
        parameters: A range, or the values to choose from; others have their default.
    """

    policy: str
    parameters: Mapping[str, Range | tuple[Value, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.parameters.items():
            ends = (values.low, values.high) if isinstance(values, Range) else values
            if not ends:
                raise InvalidParameterError(
                    f"Expected values for {name} of policy {self.policy!r}, got none."
                )
        # Refuses what the policy does not take, whichever way values are combined.
        most = max((len(_ends(one)) for one in self.parameters.values()), default=1)
        for turn in range(most):
            Arm.of(
                self.policy,
                **{
                    name: _ends(values)[turn % len(_ends(values))]
                    for name, values in self.parameters.items()
                },
            )

    def document(self) -> dict[str, Any]:
        """Return the space as plain values."""
        plain = {
            name: asdict(values) if isinstance(values, Range) else _listed(values)
            for name, values in self.parameters.items()
        }
        return {"policy": self.policy, "parameters": plain}


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All choices of a search: every combination of what is listed."""

    methods: tuple[str, ...]
    policies: tuple[PolicySpace, ...]
    layers: tuple[str, ...] = ("auto",)
    sizes: tuple[tuple[int, int], ...] = ((224, 224),)
    precisions: tuple[str, ...] = ("float32",)

    def __post_init__(self) -> None:
        names = [one.policy for one in self.policies]
        for noun, values in (
            ("method", self.methods),
            ("policy", tuple(names)),
            ("layer", self.layers),
            ("size", self.sizes),
            ("precision", self.precisions),
        ):
            if not values or len(set(values)) != len(values):
                raise InvalidParameterError(
                    f"Expected at least one {noun} to choose from and none twice, got"
                    f" {values}."
                )
        for method in self.methods:
            _require_method(method)
        for size in self.sizes:
            for precision in self.precisions:
                _require_input(size, precision)

    def document(self) -> dict[str, Any]:
        """Return the space as plain values."""
        return {
            "methods": list(self.methods),
            "layers": list(self.layers),
            "policies": [one.document() for one in self.policies],
            "sizes": [list(size) for size in self.sizes],
            "precisions": list(self.precisions),
        }


def _ends(values: Range | tuple[Value, ...]) -> tuple[Value, ...]:
    return (values.low, values.high) if isinstance(values, Range) else values


def _listed(values: tuple[Value, ...]) -> list[Any]:
    return [list(one) if isinstance(one, tuple) else one for one in values]


def _require_method(method: str) -> None:
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)


def _require_input(size: tuple[int, ...], precision: str) -> None:
    if len(size) != 2 or min(size) < 1 or precision not in PRECISIONS:
        raise InvalidParameterError(
            f"Expected a size (height, width) and a precision of"
            f" {' or '.join(PRECISIONS)}, got {size} and {precision!r}."
        )

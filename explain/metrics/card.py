# SPDX-License-Identifier: Apache-2.0
"""The definition card of a metric: what goes with every number. No torch here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from explain.kinds import KINDS
from explain.parameters import Parameter, Value, resolved


class Direction(StrEnum):
    """Which way a better explanation moves the value."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    NEITHER = "neither is better"


class Family(StrEnum):
    """What a metric asks about an explanation."""

    FAITHFULNESS = "faithfulness"
    COMPLETENESS = "completeness"
    SENSITIVITY = "sensitivity"
    LOCALISATION = "localisation"
    COMPLEXITY = "complexity"
    RANDOMISATION = "randomisation"
    FAILURE_CASES = "failure cases"


#: Lowest and highest value; None where there is none.
Range = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Passes that a metric needs of an item.

    Attributes:
        key: What the passes compute. Metrics of one run that need the same share it,
            so that the same key is paid for once.
        forwards: Plain forward passes.
        explanations: Whole explanations, each of which costs what the method costs.
    """

    key: str
    forwards: int = 0
    explanations: int = 0


def _nothing(_arguments: Mapping[str, Any]) -> tuple[Passes, ...]:
    """Stand in for the passes of a metric that makes none."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCard:
    """A metric's definition.

    Attributes:
        name: The name that an audit uses.
        family: What it asks.
        values: The keys that it gives.
        axiom_values: Those that it gives for methods with a completeness axiom only;
            residuals, of which less is better.
        formula: The definition, in one line of plain text.
        source: Paper and section.
        baseline: What stands for "nothing there".
        direction: Which way a better explanation moves the values.
        directions: The values that differ from that.
        units: What a value is in.
        range: Lowest and highest value.
        ranges: The values that differ from that.
        conventions: Constants that libraries set differently under one name.
        parameters: What can be set.
        does_not_show: Warns of the wrong conclusion.
        needs_truth: Whether it compares with ground-truth masks.
        kinds: The kinds of items that it is defined for.
        passes: From resolved parameters to the passes that an item takes.
    """

    name: str
    family: Family
    values: tuple[str, ...]
    formula: str
    source: str
    baseline: str
    direction: Direction
    units: str
    range: Range
    does_not_show: str
    axiom_values: tuple[str, ...] = ()
    directions: Mapping[str, Direction] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    conventions: Mapping[str, float | int | str] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    needs_truth: bool = False
    kinds: tuple[str, ...] = KINDS
    passes: Callable[[Mapping[str, Any]], tuple[Passes, ...]] = _nothing

    @property
    def forwards_per_item(self) -> int:
        """The cost with default parameters, an explanation counting as one."""
        return sum(one.forwards + one.explanations for one in self._default_passes())

    @property
    def explanations_per_item(self) -> int:
        """How many of those are whole explanations."""
        return sum(one.explanations for one in self._default_passes())

    @property
    def defaults(self) -> dict[str, Any]:
        """The conventions, and every parameter at its default."""
        return self.settings({})

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the conventions, and every parameter as given or at its default."""
        return {**self.conventions, **self.arguments(given)}

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Return every parameter's value.

        Raises:
            InvalidParameterError: one is unknown, of a wrong type or out of range.
        """
        return resolved(f"metric {self.name!r}", self.parameters, given)

    def values_for(self, *, complete: bool) -> tuple[str, ...]:
        """Return the keys that the metric gives for a method.

        Args:
            complete: Whether the method has a completeness axiom.
        """
        return self.values + (self.axiom_values if complete else ())

    def direction_of(self, value: str) -> Direction:
        """Return which way a better explanation moves that value; residuals fall."""
        if value in self.axiom_values:
            return Direction.LOWER
        return self.directions.get(value, self.direction)

    def range_of(self, value: str) -> Range:
        """Return the lowest and the highest number that the value can be."""
        if value in self.axiom_values:
            return (0.0, None)
        return self.ranges.get(value, self.range)

    def baseline_with(self, given: Mapping[str, Any]) -> str:
        """Return what stands for "nothing there" under these parameters."""
        kind = self.arguments(given).get("baseline")
        return REMOVALS.get(str(kind), self.baseline)

    def document(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the card as JSON values, its cost under these parameters."""
        arguments = given or {}
        cost = total_cost([(self, self.arguments(arguments))])
        values = (*self.values, *self.axiom_values)
        return {
            "name": self.name,
            "family": str(self.family),
            "values": list(self.values),
            "axiom_values": list(self.axiom_values),
            "formula": self.formula,
            "source": self.source,
            "baseline": self.baseline_with(arguments),
            "direction": str(self.direction),
            "directions": {key: str(self.direction_of(key)) for key in values},
            "units": self.units,
            "range": list(self.range),
            "ranges": {key: list(self.range_of(key)) for key in values},
            "defaults": self.settings(arguments),
            "does_not_show": self.does_not_show,
            "needs_truth": self.needs_truth,
            "forwards_per_item": cost.forwards + cost.explanations,
            "explanations_per_item": cost.explanations,
            "parameters": {
                name: each.document() for name, each in self.parameters.items()
            },
        }

    def _default_passes(self) -> tuple[Passes, ...]:
        return self.passes(self.arguments({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What metrics cost an item: forward passes, and explanations beside them."""

    forwards: int
    explanations: int


def total_cost(chosen: Iterable[tuple[MetricCard, Mapping[str, Any]]]) -> Cost:
    """Return what metrics cost together; what several need is counted once.

    Args:
        chosen: Cards with their resolved parameters.
    """
    needed: dict[str, Passes] = {}
    for card, arguments in chosen:
        for one in card.passes(arguments):
            needed[one.key] = one
    return Cost(
        forwards=sum(one.forwards for one in needed.values()),
        explanations=sum(one.explanations for one in needed.values()),
    )


#: What can stand for removed pixels, in words.
REMOVALS: dict[str, str] = {
    "zero": "zero in normalised space, the mean colour of the training data",
    "mean": "the item's own mean colour",
    "blur": "the item blurred until only large shapes are left",
    "noise": "standard normal noise in normalised space, belonging to the item",
    "imputation": "noisy linear imputation from what is left (ROAD)",
}
NO_BASELINE = "none"

#: Percentages at which curves are given: those of the paper's thresholds and one half.
KEPT_PERCENTAGES = (1, 5, 10, 20, 50)

#: Offered by each metric that removes a part of the input.
BASELINE = Parameter(
    meaning="what stands for removed pixels",
    default="zero",
    choices=tuple(REMOVALS),
)


def whole_removed(arguments: Mapping[str, Any]) -> tuple[Passes, ...]:
    """Return the pass over the baseline alone, which curves share.

    Where nothing is left to impute from, an item becomes its mean colour.
    """
    return (Passes(key=f"baseline {arguments['baseline']}", forwards=1),)

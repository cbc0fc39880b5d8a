# SPDX-License-Identifier: Apache-2.0
"""Criteria: what a run's figures must be for the audit to be met.

```
criterion = metric value "." aggregate operator number      deletion_auc.mean <= 0.4
aggregate = mean | median | std | min | max | p05 | p25 | p75 | p95
operator  = < | <= | > | >= | ==
```

Clauses beside the comparison (a confidence, parts) are those of
`pipeline.criterion_clauses`.

Beside the metrics there are `score.<aggregate>`, `items_failed.fraction` and
`items_failed.count`, and for the change since the run before `drift.<value>.ks`,
`drift.<value>.mean_change`, `drift.prediction_changed`, `drift.class_psi` and
`drift.failed_change`.
"""

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pipeline.criterion_clauses import read_clauses, require_sense
from pipeline.errors import SpecError

AGGREGATES = ("mean", "median", "std", "min", "max", "p05", "p25", "p75", "p95")
#: Values that every run has, and the aggregates that each has.
PSEUDO_METRICS: Mapping[str, tuple[str, ...]] = {
    "score": AGGREGATES,
    "items_failed": ("fraction", "count"),
    "drift": ("prediction_changed", "class_psi", "failed_change"),
}
#: What `drift.<value>` has, for each value with a distribution.
DRIFT = "drift."
DRIFT_AGGREGATES: tuple[str, ...] = ("mean_change", "ks")
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}

_FORM = re.compile(
    r"\s*(?P<metric>(drift\.)?[A-Za-z][\w\-]*)\.(?P<aggregate>\w+)"
    r"\s*(?P<op>[<>=!]+)"
    r"\s*(?P<number>[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?)\s*",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One condition on one aggregate of one value.

    Attributes:
        text: As written in the spec.
        metric: The value.
        aggregate: Of its column.
        op: How the figure is compared.
        number: With what.
        confidence: A fraction; None compares the figure itself.
        by: `class` or `group:<column>`; None takes all items together.
    """

    text: str
    metric: str
    aggregate: str
    op: str
    number: float
    confidence: float | None = None
    by: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether one figure decides, without interval or parts."""
        return self.confidence is None and self.by is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a criterion holds.

    Attributes:
        criterion: What was asked.
        value: The figure that was found, None when there is none.
        passed: None when there is no figure, which is not a pass.
        message: One sentence for the report.
    """

    criterion: Criterion
    value: float | None
    passed: bool | None
    message: str


def parse_criterion(
    text: str, known_values: Collection[str] | None = None
) -> Criterion:
    """Return the criterion that the text states.

    Args:
        text: As written in the spec.
        known_values: Values that the audit's metrics give; None leaves the metric
            unchecked, for callers that do not know them yet.

    Raises:
        SpecError: the text is no criterion, or names an unknown value or aggregate.
    """
    clauses = read_clauses(text)
    found = _FORM.fullmatch(clauses.comparison)
    if found is None:
        raise SpecError(
            f"{text!r} is not a criterion: expected <value>.<aggregate> <op> <number>,"
            " such as deletion_auc.mean <= 0.4."
        )
    metric, aggregate, op = found["metric"], found["aggregate"], found["op"]
    if op not in OPERATORS:
        raise SpecError(
            f"{text!r} compares with {op!r}: expected one of {', '.join(OPERATORS)}."
        )
    number = float(found["number"])
    if not math.isfinite(number):
        raise SpecError(f"{text!r} compares with a number that is too large.")
    if known_values is not None:
        _require_known(text, metric, known_values)
    if metric.startswith(DRIFT):
        aggregates = DRIFT_AGGREGATES
    else:
        aggregates = PSEUDO_METRICS.get(metric, AGGREGATES)
    if aggregate not in aggregates:
        raise SpecError(
            f"{text!r} names the aggregate {aggregate!r}, which {metric} does not have"
            f"{_hint(aggregate, aggregates)}."
        )
    require_sense(text, clauses, metric, aggregate)
    return Criterion(
        text=text.strip(),
        metric=metric,
        aggregate=aggregate,
        op=op,
        number=number,
        confidence=clauses.confidence,
        by=clauses.by,
    )


def _require_known(text: str, metric: str, known_values: Collection[str]) -> None:
    """Nothing happens if the audit measures the value, or every run has it."""
    if metric.startswith(DRIFT):
        known = {f"{DRIFT}{name}" for name in (*known_values, "score")}
    else:
        known = {*known_values, *PSEUDO_METRICS}
    if metric not in known:
        raise SpecError(
            f"{text!r} names the value {metric!r}, which this audit does not measure"
            f"{_hint(metric, sorted(known))}."
        )


def _hint(name: str, known: Iterable[str]) -> str:
    choices = list(known)
    near = get_close_matches(name, choices, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}"
    return f"; known are {', '.join(choices)}"


def evaluate(
    criterion: Criterion, summaries: Mapping[str, Mapping[str, float | None]]
) -> Verdict:
    """Return whether the criterion holds for the summaries (value → aggregate).

    Where there is no figure, or one that is not finite, nothing is passed.
    """
    value = summaries.get(criterion.metric, {}).get(criterion.aggregate)
    name = f"{criterion.metric}.{criterion.aggregate}"
    if value is None or not math.isfinite(value):
        return Verdict(
            criterion=criterion,
            value=None,
            passed=None,
            message=f"{name} has no value, so {criterion.text!r} is not met.",
        )
    passed = OPERATORS[criterion.op](value, criterion.number)
    asked = f"{criterion.op} {criterion.number:g}"
    message = (
        f"{name} is {value:.6g}, {asked} as required."
        if passed
        else f"{name} is {value:.6g}, required is {asked}."
    )
    return Verdict(criterion=criterion, value=value, passed=passed, message=message)

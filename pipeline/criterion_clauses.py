# SPDX-License-Identifier: Apache-2.0
"""The clauses beside a criterion's comparison: its family, its confidence, its parts.

```
criterion  = [ family "." ] comparison { clause }
clause     = "with" number "%" "confidence"
           | "on all items" | "by class" | "by group:" column
family     = faithfulness | completeness | sensitivity | localisation | ...
```

A family only says where a value belongs; the value has its own name without it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

from explain.metrics.cards import METRICS
from pipeline.errors import SpecError

#: Which family each metric belongs to, as the reference pages sort them.
FAMILIES = {
    "deletion": "faithfulness",
    "insertion": "faithfulness",
    "confidence_retained": "faithfulness",
    "completeness": "completeness",
    "max_sensitivity": "sensitivity",
    "localisation": "localisation",
}
#: Names that may stand before a value.
FAMILY_NAMES = (
    "faithfulness",
    "completeness",
    "sensitivity",
    "localisation",
    "complexity",
    "randomisation",
)
#: What a confidence may be, in per cent: beyond it replicates are too few.
CONFIDENCES = (50.0, 99.9)

_FAMILY = re.compile(rf"\s*(?P<family>{'|'.join(FAMILY_NAMES)})\.(?=\w[\w\-]*\.\w)")
_CLAUSE = re.compile(
    r"\s+(?:with\s+(?P<percent>\d+(?:\.\d+)?)\s*%\s+confidence"
    r"|(?P<all>on\s+all\s+items)|"
    r"by\s+(?P<by>class|group:\S(?:(?!\s(?:with|by|on)\s).)*?))\s*$"
)
_LOOKS_LIKE_CLAUSE = re.compile(r"[<>=!]\s*[-+.\d]\S*\s+(?P<rest>\S.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clauses:
    """A criterion taken apart.

    Attributes:
        comparison: What is left: `<value>.<aggregate> <op> <number>`.
        family: As written before the value; None where it stands alone.
        confidence: A fraction; None compares the figure itself.
        by: `class` or `group:<column>`; None takes all items together.
    """

    comparison: str
    family: str | None = None
    confidence: float | None = None
    by: str | None = None


def read_clauses(text: str) -> Clauses:
    """Return the criterion taken apart.

    Raises:
        SpecError: a clause is unknown or there twice, or the confidence is none.
    """
    rest, confidence, by, scoped = text, None, None, False
    while found := _CLAUSE.search(rest):
        if found["percent"] is not None:
            _once(text, "a confidence", confidence is not None)
            confidence = _fraction(text, float(found["percent"]))
        else:
            _once(text, "which items it is about", scoped)
            scoped, by = True, found["by"]
        rest = rest[: found.start()]
    unknown = _LOOKS_LIKE_CLAUSE.search(rest)
    if unknown is not None:
        raise SpecError(
            f"{text!r} is not a criterion: it ends in {unknown['rest']!r}; expected "
            "'with 95% confidence', 'on all items', 'by class' or 'by group:<column>'."
        )
    family = _FAMILY.match(rest)
    return Clauses(
        comparison=rest if family is None else rest[family.end() :],
        family=None if family is None else family["family"],
        confidence=confidence,
        by=by,
    )


def _once(text: str, what: str, already: bool) -> None:
    if already:
        raise SpecError(f"{text!r} says twice {what}; say it once.")


def _fraction(text: str, percent: float) -> float:
    low, high = CONFIDENCES
    if not low <= percent <= high:
        raise SpecError(
            f"{text!r} asks for {percent:g} % confidence: expected {low:g} to {high:g}."
        )
    return round(percent / 100, 12)


def require_sense(text: str, clauses: Clauses, value: str, aggregate: str) -> None:
    """Nothing happens if the clauses go with the value and its aggregate.

    Raises:
        SpecError: they do not.
    """
    told = family_of(value)
    if clauses.family is not None and told is not None and told != clauses.family:
        raise SpecError(f"{text!r}: {value} belongs to {told}; did you mean that?")
    if clauses.confidence is None and clauses.by is None:
        return
    what = "a confidence" if clauses.confidence is not None else "parts"
    if aggregate != "mean":
        raise SpecError(
            f"{text!r} asks for {what} of {aggregate}; only a mean has an interval and "
            "is broken down."
        )
    if clauses.confidence is not None and re.search(r"[^<>=!]==", text):
        raise SpecError(
            f"{text!r} asks for a confidence that a mean equals a number; no finite "
            "sample gives one."
        )


def require_columns(text: str, by: str | None, groups: Collection[str]) -> None:
    """Nothing happens if the criterion's parts are a column of the audit.

    Raises:
        SpecError: they are not; the message names the nearest.
    """
    if by is None or not by.startswith("group:"):
        return
    column = by.removeprefix("group:")
    if column in groups:
        return
    near = get_close_matches(column, list(groups), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}" if near else ""
    raise SpecError(
        f"{text!r} names the group {column!r}, which data.columns.groups does not"
        f"{hint}."
    )


def family_of(value: str) -> str | None:
    """Return the family of a value, None where no card tells."""
    for card in METRICS.values():
        if value in card.values or value in card.axiom_values:
            told = getattr(card, "family", None) or FAMILIES.get(card.name)
            return None if told is None else str(told)
    return None

# SPDX-License-Identifier: Apache-2.0
"""A value by class and by group, as the report tells it: the largest parts, no more."""

from collections.abc import Sequence
from typing import Any

from pipeline.aggregation import BY_CLASS, Aggregate
from pipeline.breakdown import FEW, Part, PartFigures
from pipeline.judging import interval_document

#: Parts of a dimension that a report lists, the largest first; the rest are counted.
LISTED_PARTS = 20
#: Group columns that a report tells of; the exports hold all of them.
LISTED_GROUPS = 8

#: Value name to its dimensions.
Breakdowns = dict[str, list[dict[str, Any]]]


def breakdowns_of(
    aggregate: Aggregate, names: Sequence[str], classes: Sequence[str] | None
) -> Breakdowns:
    """Return the values by the parts of each dimension that items have."""
    dimensions = aggregate.dimensions[: 1 + LISTED_GROUPS]
    return {
        name: [
            _dimension(aggregate, dimension, name, classes)
            for dimension in dimensions
            if aggregate.breakdown(dimension).parts(name)
        ]
        for name in names
    }


def _dimension(
    aggregate: Aggregate, dimension: str, name: str, classes: Sequence[str] | None
) -> dict[str, Any]:
    broken = aggregate.breakdown(dimension)
    parts = broken.parts(name)
    rest = parts[LISTED_PARTS:]
    return {
        "by": dimension,
        "parts": len(parts),
        "listed": [
            _part(broken.figures(name, part), dimension, classes)
            for part in parts[:LISTED_PARTS]
        ],
        "more": {
            "parts": len(rest),
            "n": sum(broken.moments(name, part).n for part in rest),
        },
    }


def _part(
    figures: PartFigures, dimension: str, classes: Sequence[str] | None
) -> dict[str, Any]:
    return {
        "part": figures.part,
        "name": part_name(figures.part, dimension, classes),
        "n": figures.n,
        "independent": figures.independent,
        "few": figures.independent < FEW,
        "mean": figures.mean,
        "std": figures.std,
        "interval": interval_document(figures.interval),
    }


def part_name(part: Part, dimension: str, classes: Sequence[str] | None) -> str:
    """Return what a part is called: a class by its name, a group by its value."""
    if dimension != BY_CLASS or isinstance(part, str):
        return str(part)
    known = classes is not None and 0 <= part < len(classes)
    return classes[part] if classes is not None and known else f"class {part}"

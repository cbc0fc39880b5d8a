# SPDX-License-Identifier: Apache-2.0
"""How many items the next audit needs, from how much the values of a run vary."""

from dataclasses import dataclass
from difflib import get_close_matches
from math import sqrt
from typing import Any

from explain.statistics import (
    Planned,
    items_for_criterion,
    items_for_equivalence,
    items_for_pairs,
)
from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.errors import SpecError
from pipeline.gathering import gather_values
from pipeline.services import Services
from storage.tables import RunTable

#: How alike two explanations of one item are taken to be, where nobody says.
CORRELATION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How much a value varies.

    Attributes:
        sd: Sample standard deviation of the values.
        n: Values behind it; None where it was given.
        mean: Of these.
        design_effect: By how much repeated subjects multiply the mean's variance.
    """

    sd: float
    n: int | None = None
    mean: float | None = None
    design_effect: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the next audit shall be able to show."""

    margin: float
    alpha: float = 0.05
    power: float = 0.8
    correlation: float = CORRELATION


def spread_of(services: Services, run: RunTable, value: str) -> Spread:
    """Return how much a run's values vary; the ledger tells of the reading.

    Raises:
        SpecError: the run has not at least two of the value, or they are all equal.
    """
    record_deed(
        services, Action.RESULTS_READ, f"run/{run.id}", details={"purpose": "power"}
    )
    aggregate = gather_values(services, run)
    names = sorted(name for name, s in aggregate.summaries().items() if s.n)
    if value not in names:
        near = get_close_matches(value, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}" if near else f"it has {', '.join(names)}"
        raise SpecError(f"--metric: the run {run.id} has no '{value}'; {hint}.")
    moments = aggregate.moments(value)
    if not moments.std:
        raise SpecError(
            f"--metric: the {moments.n} values of '{value}' in run {run.id} do not "
            "vary, so nothing can be planned from them; give --sd."
        )
    return Spread(
        sd=moments.std,
        n=moments.n,
        mean=moments.mean,
        design_effect=max(1.0, aggregate.design_effect(value)),
    )


def plan_sizes(spread: Spread, question: Question) -> dict[str, Planned]:
    """Return the number of items by what is to be shown.

    Raises:
        explain.errors.InvalidParameterError: no number of items is enough, or a
            parameter makes no sense.
    """
    if not -1 < question.correlation < 1:
        raise SpecError(
            f"--correlation: expected a number between -1 and 1, got "
            f"{question.correlation:g}."
        )
    settings: dict[str, Any] = {
        "alpha": question.alpha,
        "power": question.power,
        "design_effect": spread.design_effect,
    }
    between = difference_sd(spread.sd, question.correlation)
    return {
        "criterion": items_for_criterion(spread.sd, question.margin, **settings),
        "paired": items_for_pairs(between, question.margin, **settings),
        "equivalence": items_for_equivalence(between, question.margin, **settings),
    }


def difference_sd(sd: float, correlation: float) -> float:
    """Return the deviation of the differences of two values of one item."""
    return sd * sqrt(2 * (1 - correlation))

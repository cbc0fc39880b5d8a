# SPDX-License-Identifier: Apache-2.0
"""Every metric's card by name, and the profiles. No torch here."""

from collections.abc import Mapping
from typing import Any

from explain.kinds import IMAGE
from explain.metrics import (
    failure_cards,
    faithfulness_cards,
    fidelity_cards,
    localisation_cards,
    map_cards,
    randomisation_cards,
    sensitivity_cards,
)
from explain.metrics.card import (
    REMOVALS,
    Cost,
    Direction,
    Family,
    MetricCard,
    Passes,
    total_cost,
)

__all__ = [
    "METRICS",
    "PROFILES",
    "REMOVALS",
    "Cost",
    "Direction",
    "Family",
    "MetricCard",
    "Passes",
    "cost_of",
    "profile",
    "total_cost",
]

#: Every metric by the name that an audit uses.
METRICS: dict[str, MetricCard] = {
    card.name: card
    for card in (
        *faithfulness_cards.CARDS,
        *fidelity_cards.CARDS,
        *map_cards.COMPLETENESS_CARDS,
        *sensitivity_cards.CARDS,
        *localisation_cards.CARDS,
        *map_cards.COMPLEXITY_CARDS,
        *randomisation_cards.CARDS,
        *failure_cards.CARDS,
    )
}

#: Ready-made choices: metrics with the parameters that differ from their defaults.
PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    # At most 12 forward passes an item, whatever the method costs.
    "quick": {
        "deletion": {"steps": 5},
        "insertion": {"steps": 5},
        "confidence_retained": {},
        "sufficiency": {},
        "comprehensiveness": {},
        "completeness": {},
        "retention": {},
        **{name: {} for name, card in METRICS.items() if card.needs_truth},
        "sparseness": {},
        "entropy": {},
        "effective_complexity": {},
        "failure_cases": {},
    },
    "full": {name: {} for name in METRICS},
}


def profile(name: str, *, truth: bool, kind: str = IMAGE) -> dict[str, dict[str, Any]]:
    """Return the metrics of a profile with their parameters.

    Args:
        name: Of ``PROFILES``.
        truth: Whether items have ground-truth masks; without, metrics that compare
            with them are left out.
        kind: Of the items; metrics that are not defined for it are left out.
    """
    return {
        metric: dict(given)
        for metric, given in PROFILES[name].items()
        if (truth or not METRICS[metric].needs_truth) and kind in METRICS[metric].kinds
    }


def cost_of(chosen: Mapping[str, Mapping[str, Any]]) -> Cost:
    """Return what metrics with such parameters cost an item together."""
    return total_cost(
        (METRICS[name], METRICS[name].arguments(given))
        for name, given in chosen.items()
    )

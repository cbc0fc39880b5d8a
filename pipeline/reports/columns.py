# SPDX-License-Identifier: Apache-2.0
"""The columns of numbers in a report: each with its definition and its distribution."""

from collections.abc import Mapping
from typing import Any

from explain.kinds import IMAGE
from explain.metrics.card import NO_BASELINE
from explain.metrics.cards import MetricCard
from pipeline.aggregation import MetricSummary
from pipeline.item_row import KEEP_ACHIEVED, SCORE
from pipeline.kinds.cards import KIND_CARDS
from pipeline.reports.inputs import ReportInputs
from pipeline.reports.wording import absence_sentence, title_of

CONFIDENCE = 0.95

_EMPTY = MetricSummary(n=0)

#: Columns that every run has; they are no metrics, so they have no card of their own.
_DEFINITIONS: dict[str, dict[str, Any]] = {
    SCORE: {
        "formula": "softmax probability of the explained class",
        "direction": None,
        "units": "probability",
        "range": [0.0, 1.0],
        "does_not_show": (
            "Whether the prediction is right: networks are often sure and wrong."
        ),
    },
    KEEP_ACHIEVED: {
        "formula": "positions kept by the mask / all positions",
        "direction": None,
        "units": "fraction of positions",
        "range": [0.0, 1.0],
        "does_not_show": "Whether the kept part matters to the model.",
    },
}


def metric_parts(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return one part a value of each metric asked for, in the spec's order.

    A metric without any value is there all the same, with the reasons.
    """
    names = _asked(inputs)
    cards = [(name, inputs.metric_cards.get(name)) for name in names]
    parts: dict[str, dict[str, Any]] = {}
    for name, card in cards:
        for value in _values(name, card, inputs):
            arguments = _arguments(name, inputs)
            definition = _definition(card, value, arguments, inputs)
            parts[value] = _part(value, inputs, definition, metric=name)
    # Values that no card declares still belong in the report.
    known = {*names, *parts, SCORE, KEEP_ACHIEVED}
    for value in sorted(inputs.summaries.keys() - known):
        parts[value] = _part(value, inputs, {}, metric=value)
    return list(parts.values())


def column_parts(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the parts of the columns that every run has."""
    return [
        _part(name, inputs, definition, metric=None)
        for name, definition in _DEFINITIONS.items()
    ]


def _asked(inputs: ReportInputs) -> list[str]:
    """Return the names of the metrics: the plan's, where profiles are spelled out."""
    planned = inputs.plan.get("metrics")
    return [str(name) for name in planned or inputs.spec.get("metrics") or ()]


def _arguments(name: str, inputs: ReportInputs) -> Mapping[str, Any]:
    """Return the parameters under which the run measured the metric."""
    planned: Mapping[str, Any] = inputs.plan.get("metric_arguments") or {}
    given: Mapping[str, Any] = planned.get(name) or {}
    return given


def _values(
    name: str, card: MetricCard | None, inputs: ReportInputs
) -> tuple[str, ...]:
    if card is None:
        return (name,)
    method = inputs.method_cards.get(str(inputs.plan.get("method")))
    return card.values_for(complete=method is not None and method.complete)


def _definition(
    card: MetricCard | None,
    value: str,
    arguments: Mapping[str, Any],
    inputs: ReportInputs,
) -> dict[str, Any]:
    if card is None:
        return {}
    document = card.document(arguments)
    kind = str(inputs.plan.get("kind", IMAGE))
    if kind in KIND_CARDS and document["baseline"] != NO_BASELINE:
        document["baseline"] = f"a unit's own: {KIND_CARDS[kind].baseline}"
    return {
        "formula": card.formula,
        "source": card.source,
        "baseline": document["baseline"],
        "direction": str(card.direction_of(value)),
        "units": card.units,
        "range": list(card.range_of(value)),
        "defaults": document["defaults"],
        "does_not_show": card.does_not_show,
        "forwards_per_item": document["forwards_per_item"],
    }


def _part(
    name: str, inputs: ReportInputs, definition: Mapping[str, Any], metric: str | None
) -> dict[str, Any]:
    summary = inputs.summaries.get(name, _EMPTY)
    return {
        "name": name,
        "title": title_of(name),
        "metric": metric,
        "definition": {
            "formula": None,
            "source": None,
            "baseline": None,
            "direction": None,
            "units": None,
            "range": None,
            "defaults": {},
            "does_not_show": None,
            **definition,
        },
        **_numbers(summary),
        "breakdowns": list(inputs.breakdowns.get(name, ())),
        "absent": _absent(name, metric, inputs),
    }


def _numbers(summary: MetricSummary) -> dict[str, Any]:
    interval = None
    if summary.interval_low is not None:
        interval = {
            "low": summary.interval_low,
            "high": summary.interval_high,
            "confidence": CONFIDENCE,
            "independent": summary.independent,
            "method": summary.interval_method,
        }
    return {
        "n": summary.n,
        "mean": summary.mean,
        "std": summary.std,
        "min": summary.min,
        "p05": summary.p05,
        "p25": summary.p25,
        "median": summary.median,
        "p75": summary.p75,
        "p95": summary.p95,
        "max": summary.max,
        "quantile_error": summary.quantile_error,
        "interval": interval,
        "histogram": {
            "edges": list(summary.histogram_edges),
            "counts": list(summary.histogram_counts),
        },
    }


def _absent(
    name: str, metric: str | None, inputs: ReportInputs
) -> list[dict[str, Any]]:
    """Return why done items lack the value, or lack all values of its metric."""
    reasons: dict[str, int] = {}
    for key in {name, metric} - {None}:
        for code, many in inputs.counts.absences.get(str(key), {}).items():
            reasons[code] = reasons.get(code, 0) + many
    return [
        {"reason": code, "sentence": absence_sentence(code), "count": many}
        for code, many in sorted(reasons.items(), key=lambda p: (-p[1], p[0]))
    ]

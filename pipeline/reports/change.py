# SPDX-License-Identifier: Apache-2.0
"""What the report says of the change since the run before."""

from dataclasses import asdict
from typing import Any

from explain.change_values import PSI_FORMULA, SAMPLE
from pipeline.reports.columns import CONFIDENCE
from pipeline.reports.inputs import ReportInputs
from pipeline.reports.wording import title_of
from pipeline.run_change import RunChange, ValueChange

#: Classes that are listed, those with the largest change of their share first.
LISTED_CLASSES = 20


def change_part(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return how the run differs from the one before, None where there is none."""
    change = inputs.change
    if change is None:
        return None
    return {
        "previous": {"run": change.previous, "finished_at": change.previous_finished},
        "same": {"spec": change.spec_is_same, "model": change.model_is_same},
        "items": {
            "before": change.items_before,
            "after": change.items_after,
            "common": change.common,
            "only_before": change.only_before,
            "only_after": change.only_after,
            "content_changed": change.content_changed,
        },
        "failed": {
            "before": change.failed_before,
            "after": change.failed_after,
            "change": change.failed_change,
        },
        "predictions": {
            "compared": change.compared,
            "changed": change.predicted_otherwise,
            "share": change.prediction_changed,
        },
        "classes": {
            "psi": change.class_psi,
            "formula": PSI_FORMULA,
            "seen": len(change.classes_before.keys() | change.classes_after.keys()),
            "listed": _classes(change, inputs),
        },
        "values": [_value(name, one) for name, one in change.values.items()],
        "figures": change.figures(),
    }


def _classes(change: RunChange, inputs: ReportInputs) -> list[dict[str, Any]]:
    before, after = change.classes_before, change.classes_after
    totals = max(1, sum(before.values())), max(1, sum(after.values()))

    def moved(index: int) -> float:
        return after.get(index, 0) / totals[1] - before.get(index, 0) / totals[0]

    names = inputs.class_names
    ordered = sorted(
        before.keys() | after.keys(), key=lambda index: (-abs(moved(index)), index)
    )
    return [
        {
            "index": index,
            "name": names[index]
            if names is not None and 0 <= index < len(names)
            else f"class {index}",
            "before": before.get(index, 0),
            "after": after.get(index, 0),
            "share_change": moved(index),
        }
        for index in ordered[:LISTED_CLASSES]
    ]


def _value(name: str, one: ValueChange) -> dict[str, Any]:
    moved = None
    if one.change is not None:
        moved = {**asdict(one.change), "confidence": CONFIDENCE}
    return {
        "name": name,
        "title": title_of(name),
        "before": {"n": one.n_before, "mean": one.mean_before},
        "after": {"n": one.n_after, "mean": one.mean_after},
        "change": moved,
        "ks": one.ks,
        "ks_method": "all values"
        if one.is_exact
        else f"samples of at most {SAMPLE} values a run",
        "histogram": {
            "edges": list(one.histogram.edges),
            "before": list(one.histogram.before),
            "after": list(one.histogram.after),
        },
    }

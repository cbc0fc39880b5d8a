# SPDX-License-Identifier: Apache-2.0
"""Metrics: how good an explanation is, each number with its definition card.

A metric measures one batch from the stored maps, never from anything richer, so
that anyone can recompute it from the artifact. Absent values carry an enumerated
reason. Nothing here aggregates over a run. The cards load without torch; the
rest is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from explain.metrics.absence import AbsenceReason
from explain.metrics.cards import METRICS, PROFILES, Direction, MetricCard

if TYPE_CHECKING:
    from explain.metrics.batch import MetricBatch, target_probability
    from explain.metrics.column import MetricColumn
    from explain.metrics.metric import Metric
    from explain.metrics.registry import create_metric

__all__ = [
    "METRICS",
    "PROFILES",
    "AbsenceReason",
    "Direction",
    "Metric",
    "MetricBatch",
    "MetricCard",
    "MetricColumn",
    "create_metric",
    "target_probability",
]


def __getattr__(name: str) -> Any:
    """Return an export that needs torch, importing it now."""
    from importlib import import_module  # noqa: PLC0415 - only when one is asked for

    homes = {
        "Metric": "explain.metrics.metric",
        "MetricBatch": "explain.metrics.batch",
        "MetricColumn": "explain.metrics.column",
        "create_metric": "explain.metrics.registry",
        "target_probability": "explain.metrics.batch",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)

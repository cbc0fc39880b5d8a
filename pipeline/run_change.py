# SPDX-License-Identifier: Apache-2.0
"""How a run differs from the one before it of the same audit, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass

from explain.change_values import MeanChange, SharedHistogram


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueChange:
    """How one column of numbers differs."""

    n_before: int
    n_after: int
    mean_before: float | None
    mean_after: float | None
    change: MeanChange | None
    ks: float | None
    #: Whether the statistic is over all values, or over samples of 10,000.
    is_exact: bool
    histogram: SharedHistogram


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """How a run differs from the one before it.

    Attributes:
        previous: The run before.
        common: Items of both, by URI; `content_changed` of them have other bytes.
        only_before, only_after: Items of one of them.
        failed_before, failed_after: Shares of items without an explanation.
        compared: Common items with a prediction in both runs.
        predicted_otherwise: Those of them whose predicted class is another.
        classes_before, classes_after: Predictions by class.
        values: By name, the score included.
    """

    previous: str
    previous_finished: float | None
    spec_is_same: bool
    model_is_same: bool
    items_before: int
    items_after: int
    common: int
    only_before: int
    only_after: int
    content_changed: int
    failed_before: float
    failed_after: float
    compared: int
    predicted_otherwise: int
    classes_before: Mapping[int, int]
    classes_after: Mapping[int, int]
    class_psi: float | None
    values: Mapping[str, ValueChange]

    @property
    def prediction_changed(self) -> float | None:
        """The share of common items whose predicted class is another."""
        return self.predicted_otherwise / self.compared if self.compared else None

    @property
    def failed_change(self) -> float:
        """How far the share of failed items moved."""
        return self.failed_after - self.failed_before

    def figures(self) -> dict[str, dict[str, float | None]]:
        """Return what criteria can ask for, by value and aggregate."""
        found: dict[str, dict[str, float | None]] = {
            "drift": {
                "prediction_changed": self.prediction_changed,
                "class_psi": self.class_psi,
                "failed_change": self.failed_change,
            }
        }
        for name, value in self.values.items():
            moved = value.change.value if value.change else None
            found[f"drift.{name}"] = {"mean_change": moved, "ks": value.ks}
        return found

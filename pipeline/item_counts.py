# SPDX-License-Identifier: Apache-2.0
"""How many items of a run ended how."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.group_outcomes import GroupOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCounts:
    """How many items ended how. Items of dead shards are in none of these."""

    done: int
    failed: int
    #: Why items failed.
    failures: Mapping[str, int]
    #: Reservations about items that are done all the same.
    reservations: Mapping[str, int]
    #: Metric to reason to number of done items without a value.
    absences: Mapping[str, Mapping[str, int]]
    #: Done items that have both a label and a prediction, and those that agree.
    labelled: int
    correct: int
    #: By class index: predictions, labels, and labels that the prediction met.
    predicted_classes: Mapping[int, int]
    labelled_classes: Mapping[int, int]
    correct_classes: Mapping[int, int]
    #: By group column and group.
    groups: Mapping[str, Mapping[str, GroupOutcome]] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """The share of labelled items whose prediction is their label."""
        return self.correct / self.labelled if self.labelled else None

# SPDX-License-Identifier: Apache-2.0
"""How the items of each group ended, and how often the prediction was the label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.item_row import ItemRow
from storage.states import ItemStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOutcome:
    """The items of one group.

    Attributes:
        items: All that were read or failed; items of dead shards are not known.
        failed: Those without an explanation.
        labelled: Done items with both a label and a prediction.
        correct: Those of them whose prediction is the label.
    """

    items: int = 0
    failed: int = 0
    labelled: int = 0
    correct: int = 0

    def with_item(self, row: ItemRow) -> "GroupOutcome":
        """Return the outcome with one more item."""
        done = row.status == ItemStatus.DONE
        both = done and row.predicted is not None and row.label is not None
        return GroupOutcome(
            items=self.items + 1,
            failed=self.failed + (not done),
            labelled=self.labelled + both,
            correct=self.correct + (both and row.predicted == row.label),
        )


class GroupOutcomes:
    """The outcomes of the groups of each column, counted item by item."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._found: dict[str, dict[str, GroupOutcome]] = {name: {} for name in columns}

    def add(self, row: ItemRow) -> None:
        """Count one item in the groups that it belongs to."""
        for column, groups in self._found.items():
            value = row.groups.get(column)
            if value is not None:
                groups[value] = groups.get(value, GroupOutcome()).with_item(row)

    def found(self) -> Mapping[str, Mapping[str, GroupOutcome]]:
        """Return the outcomes so far, by column and group."""
        return {column: dict(groups) for column, groups in self._found.items()}

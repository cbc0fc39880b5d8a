# SPDX-License-Identifier: Apache-2.0
"""How a part of a run came out when it was computed again."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipeline.reverification.draw import DrawKey

#: Differing items that are named; the rest is counted.
MOST_NAMED = 100


class Verdict(StrEnum):
    """What the recomputation says of the run."""

    #: Every drawn item was computed again and gives the same record.
    AGREES = "agrees"
    #: An item gives another record, or the rows are not those of the result.
    DIFFERS = "differs"
    #: Nothing differs, but not every drawn item could be computed again.
    INCOMPLETE = "incomplete"
    #: It was stopped before it was through; nothing differed until then.
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An item whose record is another one now; digests in hexadecimal."""

    item_index: int
    item_id: str
    stored: str
    computed: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The counts of a re-verification, while it is made and after.

    Attributes:
        key: What decided the draw.
        fraction: What was asked for.
        items_total: Items of the run that could be drawn.
        batches: Drawn batches.
        drawn: Items in them.
        rows_hold: Whether the digests of all rows give the run's result digest; None
            where the run has none.
        same: Items with the same record.
        differing: Items with another one.
        not_computed: Items that could not be computed again, by reason.
        differences: The first differing items.
        stopped: Whether it ended early.
    """

    key: DrawKey
    fraction: float
    items_total: int
    batches: int
    drawn: int
    rows_hold: bool | None = None
    same: int = 0
    differing: int = 0
    not_computed: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    stopped: bool = False

    @property
    def verdict(self) -> Verdict:
        """What the counts say."""
        if self.differing or self.rows_hold is False:
            return Verdict.DIFFERS
        if self.stopped:
            return Verdict.STOPPED
        return Verdict.INCOMPLETE if self.not_computed.total() else Verdict.AGREES

    def differs(self, difference: Difference) -> None:
        """One more item has another record."""
        self.differing += 1
        if len(self.differences) < MOST_NAMED:
            self.differences.append(difference)

    def facts(self) -> dict[str, Any]:
        """Return the counts as they are stored, and told by later reports."""
        return {
            "fraction": self.fraction,
            "tree_size": self.key.tree_size,
            "root": self.key.root,
            "batches": self.batches,
            "items": self.drawn,
            "items_total": self.items_total,
            "rows_hold": self.rows_hold,
            "same": self.same,
            "differing": self.differing,
            "not_computed": self.not_computed.total(),
            "reasons": dict(sorted(self.not_computed.items())),
        }

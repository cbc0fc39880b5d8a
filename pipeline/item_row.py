# SPDX-License-Identifier: Apache-2.0
"""What aggregation needs to know of one item."""

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Columns of an item that are summarised like metrics, beside the metrics.
SCORE = "score"
KEEP_ACHIEVED = "keep_achieved"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """The facts of one item that a run's figures are made of."""

    item_index: int
    item_id: str
    status: str
    reason: str | None = None
    predicted: int | None = None
    target: int | None = None
    label: int | None = None
    score: float | None = None
    keep_requested: float | None = None
    keep_achieved: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    absences: Mapping[str, str] = field(default_factory=dict)
    #: Whom it is about, a token; None where the audit names no subjects.
    subject_token: str | None = None
    #: Group column to value, or to its token where persons are meant.
    groups: Mapping[str, str] = field(default_factory=dict)

# SPDX-License-Identifier: Apache-2.0
"""Where a run comes from: a slot of a schedule, runs before it, or a person's wish."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from pipeline.incremental import IncrementalSource
from storage.schedule_slots import SlotClaim, end_slot


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrigin:
    """What brought a run about.

    Attributes:
        slot: The slot that it is the run of, None for a run that a person started.
        incremental: The source that left out what was unchanged; None for a whole run.
    """

    slot: SlotClaim | None = None
    incremental: IncrementalSource | None = None

    def to_json(self) -> dict[str, Any] | None:
        """Return it as JSON values, once the source is listed; None if it is plain."""
        found: dict[str, Any] = {}
        if self.slot is not None:
            found["schedule"] = self.slot.schedule_id
            found["slot"] = self.slot.slot
            found["manual"] = self.slot.manual
        if self.incremental is not None:
            found["incremental"] = self.incremental.to_json()
        return found or None

    def end(self, session: Session, run_id: str, model_digest: str) -> None:
        """The slot has its run, in the transaction that stores the run.

        Raises:
            FencedOutError: another planner owns the slot.
        """
        if self.slot is not None:
            end_slot(session, self.slot, run_id=run_id, model_digest=model_digest)


#: A run that somebody asked for, over everything that its source lists.
PLAIN = RunOrigin()

# SPDX-License-Identifier: Apache-2.0
"""The states that runs, shards, slots and items can be in, and which are final.

Those of runs and shards are drawn in ARCHITECTURE.md, "The states".

```
slot   pending -> planning -> planned | nothing_new
          ^  |       |
          |  |       +-> pending again after a while, or failed (attempts exhausted)
          |  +---------> skipped (a later slot of the schedule came)
          +--- a tick, or `schedule run-now`
```
"""

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands."""

    #: Planned and stored; no shard has been claimed yet.
    QUEUED = "queued"
    #: At least one shard has been claimed.
    RUNNING = "running"
    #: Every shard is final; aggregates, report and checkpoint are being written.
    FINALISING = "finalising"
    #: Every shard is done and the report is written.
    DONE = "done"
    #: Finalised, but some shards are dead: their items are missing from the results.
    INCOMPLETE = "incomplete"
    #: Stopped by its user at a batch boundary; `resume` goes on.
    INTERRUPTED = "interrupted"
    #: Held by its user; `resume` goes on.
    PAUSED = "paused"
    #: Cancelled by its user; `resume` goes on all the same.
    CANCELLED = "cancelled"
    #: Could not be finalised; the run's error says why, `resume` tries again.
    FAILED = "failed"


class ShardState(StrEnum):
    """Where a shard stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"


class ScheduleState(StrEnum):
    """Whether a schedule makes runs."""

    ACTIVE = "active"
    PAUSED = "paused"
    #: Kept for the history of its runs; it never comes back.
    REMOVED = "removed"


class SlotState(StrEnum):
    """Where a slot of a schedule stands: one moment at which a run is due."""

    #: Due; nobody plans its run yet.
    PENDING = "pending"
    #: A process lists the source and writes the run.
    PLANNING = "planning"
    #: Its run is stored.
    PLANNED = "planned"
    #: No item was new or changed, so there is no run.
    NOTHING_NEW = "nothing_new"
    #: Missed, or overtaken by a later slot; the catch-up policy made no run of it.
    SKIPPED = "skipped"
    #: Its run could not be planned in a bounded number of attempts.
    FAILED = "failed"


class SlotError(StrEnum):
    """Why the run of a slot could not be planned."""

    SPEC_UNUSABLE = "spec_unusable"
    PATH_OUTSIDE_ROOTS = "path_outside_roots"
    SOURCE_UNUSABLE = "source_unusable"
    MODEL_UNUSABLE = "model_unusable"
    MODEL_REFUSED = "model_refused"
    GATE_REFUSED = "gate_refused"
    INFRASTRUCTURE = "infrastructure"
    LEASE_EXPIRED = "lease_expired"
    FAULT = "fault"


class ItemStatus(StrEnum):
    """Whether an item was explained."""

    DONE = "done"
    FAILED = "failed"


#: States in which nothing more happens by itself.
FINAL_RUN_STATES = frozenset(
    {
        RunState.DONE,
        RunState.INCOMPLETE,
        RunState.INTERRUPTED,
        RunState.PAUSED,
        RunState.CANCELLED,
        RunState.FAILED,
    }
)
#: States in which shards may be claimed.
OPEN_RUN_STATES = frozenset({RunState.QUEUED, RunState.RUNNING})

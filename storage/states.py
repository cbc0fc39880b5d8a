# SPDX-License-Identifier: Apache-2.0
"""The states that a run, a shard and an item can be in, and which of them are final.

```
run    queued -> running -> finalising -> done | incomplete (retry -> queued)
         |         |             |
         v         v             v
       interrupted | cancelled | failed          resume -> queued

shard  pending -> running -> done
          ^  ^       |
          |  +-------+  released or lease expired (attempts left)
          |          v
          +------- dead   (attempts exhausted; `retry` brings it back)
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
        RunState.CANCELLED,
        RunState.FAILED,
    }
)
#: States in which shards may be claimed.
OPEN_RUN_STATES = frozenset({RunState.QUEUED, RunState.RUNNING})

# SPDX-License-Identifier: Apache-2.0
"""One look at a run under way: how far, who works on it, what went wrong, how fast."""

import math
from dataclasses import dataclass

from affidavit.fleet_facts import run_warnings, work_on_run
from pipeline.services import Services
from storage.run_looks import ShardProblem, shard_problems
from storage.runs import Progress, get_progress, get_run
from storage.tables import RunTable
from storage.worker_registry import WorkInHand

#: Seconds over which speeds are averaged: workers tell of batches a few times a minute.
AVERAGE_S = 60.0

#: Problems that are shown, the latest first.
PROBLEMS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLook:
    """Everything that is shown of a run at one moment."""

    run: RunTable
    progress: Progress
    workers: list[WorkInHand]
    problems: list[ShardProblem]
    warnings: list[str]


def look_at(services: Services, run_id: str) -> RunLook:
    """Return the run as it is now.

    Raises:
        UnknownRunError: there is no such run.
    """
    run = get_run(services.engine, run_id)
    return RunLook(
        run=run,
        progress=get_progress(services.engine, run),
        workers=work_on_run(services.engine, run.id),
        problems=shard_problems(services.engine, run.id, limit=PROBLEMS_SHOWN),
        warnings=run_warnings(services, run),
    )


class Speed:
    """Items a second, what is long past counting less and less."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._done = 0
        self._items = 0.0
        self._seconds = 0.0

    def see(self, at: float, done: int) -> None:
        """So many items were through at that moment, in seconds of any clock."""
        if self._at is not None and at > self._at:
            passed = at - self._at
            fade = math.exp(-passed / AVERAGE_S)
            # A shard that is given back takes its items with it, which is no speed.
            self._items = self._items * fade + max(0, done - self._done)
            self._seconds = self._seconds * fade + passed
        self._at, self._done = at, done

    @property
    def per_second(self) -> float:
        """The speed now, 0 before anything was seen to move."""
        return self._items / self._seconds if self._seconds > 0 else 0.0

    def seconds_for(self, items: int) -> float | None:
        """Return how long so many items would take, None where nobody can tell."""
        return items / self.per_second if self.per_second > 0 else None

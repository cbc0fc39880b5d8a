# SPDX-License-Identifier: Apache-2.0
"""Which slots of the schedules are due, and what becomes of those that were missed.

Every tick asks; it does not matter how many do, nor how late. The catch-up policy of a
schedule says what happens to slots that came while nobody ticked, or while an earlier
run of the schedule was still under way:

```
latest  one run, for the newest of them
all     one run each, the newest 24 at most
none    one run for the newest, if it is no more than ten minutes late
```
"""

from collections import deque

import sqlalchemy as sa
import structlog

from pipeline.cron import Cron
from storage.engine import epoch_now, reading, transaction
from storage.schedule_slots import due_slots, expire_slots, left_runs
from storage.schedules import (
    list_schedules,
    lock_schedule,
    open_slot,
    record_skipped,
    set_next_slot,
    skip_late,
    skip_overtaken,
)
from storage.states import ScheduleState
from storage.tables import ScheduleTable

log = structlog.get_logger()

#: Slots that `all` makes up for, and that may wait for their turn.
MOST_CAUGHT_UP = 24

#: Seconds that a slot of a schedule which catches nothing up may be late.
GRACE_S = 600.0

#: Missed slots that are counted one by one; of a longer gap only its end is.
MOST_COUNTED = 20_000
_END_OF_GAP_S = 2 * 86_400.0


def open_due_slots(engine: sa.Engine, *, actor: str, now: float | None = None) -> None:
    """Every slot that is due by now is there once, and those missed are accounted for.

    Args:
        engine: The database.
        actor: Who looks after the schedules, for the ledger.
        now: The moment; None reads the database's clock.
    """
    expire_slots(engine, actor=actor)
    for schedule in list_schedules(engine):
        if schedule.state != ScheduleState.ACTIVE:
            continue
        try:
            _open_due(engine, schedule, now, actor)
        except ValueError:
            # Its time zone is gone from this machine; the others go on.
            log.error("schedule_unusable", schedule=schedule.id)  # noqa: TRY400
    skip_late(engine, catch_up="none", grace_s=GRACE_S, actor=actor)


def anything_due(engine: sa.Engine, *, actor: str) -> bool:
    """Return whether `schedule run-due` has anything to do, slots being up to date."""
    open_due_slots(engine, actor=actor)
    return bool(due_slots(engine) or left_runs(engine))


def clock(engine: sa.Engine) -> float:
    """Return the moment on the database's clock."""
    with reading(engine) as session:
        return float(session.scalar(sa.select(epoch_now())) or 0.0)


def _open_due(
    engine: sa.Engine, seen: ScheduleTable, given: float | None, actor: str
) -> None:
    cron = Cron(seen.cron, seen.timezone)
    now = clock(engine) if given is None else given
    upcoming = cron.after(now)
    # A clock that was ahead has left a moment behind that is too far off.
    is_ahead = upcoming is not None and seen.next_slot > upcoming
    if seen.next_slot > now and not is_ahead:
        return
    with transaction(engine) as session:
        schedule = lock_schedule(session, seen.id)
        if schedule is None or upcoming is None:
            return
        if schedule.next_slot > now:
            set_next_slot(session, schedule.id, upcoming)
            return
        newest, count = _due(cron, schedule.next_slot, now)
        chosen = _chosen(schedule.catch_up, newest, now)
        for slot in chosen:
            open_slot(session, schedule.id, slot)
        missed = count - len(chosen)
        if missed:
            record_skipped(
                session,
                schedule.id,
                [schedule.next_slot, newest[-1]],
                missed,
                actor=actor,
            )
        keep = MOST_CAUGHT_UP if schedule.catch_up == "all" else 1
        skip_overtaken(session, schedule.id, keep=keep, actor=actor)
        set_next_slot(session, schedule.id, upcoming, missed=missed)


def _due(cron: Cron, first: float, now: float) -> tuple[list[float], int]:
    """Return the newest slots from the first one till now, and how many there are."""
    newest = deque([first], maxlen=MOST_CAUGHT_UP)
    count = 1
    for slot in cron.from_then_on(first):
        if slot > now:
            return list(newest), count
        if count == MOST_COUNTED and slot < now - _END_OF_GAP_S:
            break
        newest.append(slot)
        count += 1
    for slot in cron.from_then_on(max(newest[-1], now - _END_OF_GAP_S)):
        if slot > now:
            break
        newest.append(slot)
        count += 1
    return list(newest), count


def _chosen(catch_up: str, newest: list[float], now: float) -> list[float]:
    """Return the slots that get a run."""
    if catch_up == "all":
        return newest
    if catch_up == "none" and now - newest[-1] > GRACE_S:
        return []
    return newest[-1:]

# SPDX-License-Identifier: Apache-2.0
"""Cron expressions in a time zone: which moments they name.

Five fields as in cron(5), with names of months and days, `L` (last) and `#` (which one
of the month), or one of the words below. Where clocks are put forward, a job at a fixed
time that does not exist comes at the first moment after the gap; where they are put
back, it comes once, at the first of the two. Jobs whose minute or hour is a star follow
the clock: what is in the gap does not come, and an hour that comes twice counts twice.
That is what Debian's cron does.
"""

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

from cronsim import CronSim, CronSimError

#: Words that stand for five fields.
WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_EXAMPLE = "such as '0 3 * * *' (at three each night)"


@dataclass(frozen=True, slots=True)
class Cron:
    """Moments that repeat.

    Attributes:
        expression: Five fields, or a word.
        timezone: IANA name.

    Raises:
        ValueError: no expression, an expression that names no moment, or no time zone
            that is known; one sentence without its stop.
    """

    expression: str
    timezone: str

    def __post_init__(self) -> None:
        if self.after(0.0) is None:
            raise ValueError(
                f"the cron expression {self.expression!r} names no date within 50 years"
            )

    def after(self, moment: float) -> float | None:
        """Return the first moment that comes later, None where there is none.

        Units: seconds since 1970-01-01 UTC.
        """
        return next(self.from_then_on(moment), None)

    def from_then_on(self, moment: float) -> Iterator[float]:
        """Yield every moment that comes later, in order."""
        zone = _zone(self.timezone)
        start = datetime.fromtimestamp(moment, tz=UTC).astimezone(zone)
        for found in CronSim(_fields(self.expression), _checked(self, start)):
            # The second time of an hour that comes twice begins before its first.
            if (slot := found.timestamp()) > moment:
                yield slot


def _checked(cron: Cron, start: datetime) -> datetime:
    """Return the start, once the expression is known to be one."""
    try:
        CronSim(_fields(cron.expression), start)
    except CronSimError as exc:
        what = str(exc).removeprefix("Bad ")
        raise ValueError(
            f"the cron expression {cron.expression!r} names no date: its {what} is "
            f"not possible; expected five fields, {_EXAMPLE}"
        ) from exc
    return start


def _fields(expression: str) -> str:
    """Return the expression's five fields.

    Raises:
        ValueError: it has not five, or is a word that nobody knows.
    """
    text = " ".join(expression.split())
    if text.startswith("@"):
        if text.lower() not in WORDS:
            near = get_close_matches(text.lower(), list(WORDS), n=1)
            hint = (
                f"did you mean {near[0]}" if near else f"known are {', '.join(WORDS)}"
            )
            raise ValueError(f"there is no cron word {expression!r}; {hint}")
        return WORDS[text.lower()]
    if len(text.split(" ")) != 5:
        raise ValueError(
            f"the cron expression {expression!r} has {len(text.split())} fields, "
            f"expected five: minute, hour, day, month, weekday, {_EXAMPLE}"
        )
    return text


def _zone(name: str) -> zoneinfo.ZoneInfo:
    """Return the time zone of that name.

    Raises:
        ValueError: there is none; the sentence names the nearest.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = sorted(zoneinfo.available_timezones())
    by_small = {zone.lower(): zone for zone in known}
    near = get_close_matches(name.lower(), list(by_small), n=1, cutoff=0.5)
    hint = f"did you mean {by_small[near[0]]}" if near else "such as Europe/Berlin"
    raise ValueError(f"there is no time zone {name!r}; {hint}")


def local_text(moment: float, timezone: str) -> str:
    """Return a moment as people of that time zone write it, with its offset."""
    local = datetime.fromtimestamp(moment, tz=UTC).astimezone(_zone(timezone))
    return local.strftime("%Y-%m-%d %H:%M %z")

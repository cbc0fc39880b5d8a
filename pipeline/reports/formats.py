# SPDX-License-Identifier: Apache-2.0
"""How numbers are written for people: one function each, used by every output.

A rounded number never claims more than the exact one: only 1 is written as 100 %, and
a value beside its bound gets as many digits as tell the two apart.
"""

import math
from datetime import UTC, datetime

NOT_MEASURED = "not measured"


def number(value: float | None, reason: str | None = None) -> str:
    """Return a measured number with four significant digits."""
    if value is None:
        return f"{NOT_MEASURED} ({reason})" if reason else NOT_MEASURED
    return _significant(value, 4)


def _significant(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude >= 7:
        return f"{value:.{digits - 1}e}"
    if abs(value) < 1:
        # As many decimals as 0.1234 has, so that columns line up.
        return f"{value:.{max(digits, digits - 1 - magnitude)}f}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def exact(value: float) -> str:
    """Return a number as it was set: all its digits, and no more."""
    return repr(int(value)) if value == int(value) else repr(value)


def rate(per_second: float | None) -> str:
    """Return a speed in items; slow ones by the minute."""
    if per_second is None:
        return "not timed"
    if per_second >= 1:
        return f"{_significant(per_second, 3)} items/s"
    return f"{_significant(per_second * 60, 3)} items/min"


def number_beside(value: float | None, other: float | None) -> str:
    """Return a number with enough digits to differ from another one, if it does."""
    if value is None or other is None or value == other:
        return number(value)
    for digits in range(4, 17):
        text = _significant(value, digits)
        if text != _significant(other, digits):
            return text
    return repr(value)


def count(value: int) -> str:
    """Return a whole number with groups of three digits."""
    return f"{value:,}"


def percent(fraction: float | None) -> str:
    """Return a fraction as per cent; only 0 and 1 are written as 0 % and 100 %."""
    if fraction is None:
        return NOT_MEASURED
    if fraction in {0.0, 1.0}:
        return f"{fraction * 100:.0f} %"
    if 0 < fraction < 0.001:
        return "< 0.1 %"
    if 0.999 < fraction < 1:
        return "> 99.9 %"
    return f"{fraction * 100:.1f} %"


def signed(value: float | None) -> str:
    """Return a difference with its sign."""
    if value is None:
        return NOT_MEASURED
    text = number(abs(value))
    return f"{'+' if value > 0 else '-'}{text}" if value else text


def points(fraction: float | None) -> str:
    """Return a difference of two fractions in percentage points, with its sign."""
    if fraction is None:
        return NOT_MEASURED
    return f"{100 * fraction:+.1f} points" if fraction else "0 points"


def moment(epoch: float | None) -> str:
    """Return a moment as date and time of day in UTC."""
    if epoch is None:
        return "not recorded"
    return datetime.fromtimestamp(epoch, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units."""
    if seconds is None:
        return "not recorded"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def number_of(many: int, one: str, more: str | None = None) -> str:
    """Return a count with its noun: 1 item, 2 items."""
    return f"{count(many)} {one if many == 1 else more or one + 's'}"

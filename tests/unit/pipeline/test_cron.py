# SPDX-License-Identifier: Apache-2.0
"""Cron expressions name the moments that people of a time zone expect."""

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cron import WORDS, Cron, local_text

BERLIN = "Europe/Berlin"


def moment(text: str) -> float:
    """Return a moment of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def local(cron: Cron, start: str, count: int) -> list[str]:
    """Return the next slots in the cron's own time zone, with their offsets."""
    found = islice(cron.from_then_on(moment(start)), count)
    return [local_text(slot, cron.timezone) for slot in found]


def test_a_job_in_the_gap_comes_right_after_it_once() -> None:
    """On 2026-03-29 there is no 02:30 in Berlin: the job comes at 03:00, once."""
    assert local(Cron("30 2 * * *", BERLIN), "2026-03-28 12:00", 2) == [
        "2026-03-29 03:00 +0200",
        "2026-03-30 02:30 +0200",
    ]


def test_a_job_in_the_fold_comes_once() -> None:
    """On 2026-10-25 there are two 02:30 in Berlin: the job comes at the first."""
    assert local(Cron("30 2 * * *", BERLIN), "2026-10-24 12:00", 2) == [
        "2026-10-25 02:30 +0200",
        "2026-10-26 02:30 +0100",
    ]


def test_whoever_asks_between_the_two_hours_gets_no_second_slot() -> None:
    """Asked within the second 02:00 hour, the job's next slot is tomorrow's."""
    assert local(Cron("30 2 * * *", BERLIN), "2026-10-25 01:10", 1) == [
        "2026-10-26 02:30 +0100"
    ]


def test_an_hourly_job_follows_the_clock_on_the_wall() -> None:
    """An hour that comes twice counts twice, one that is left out not at all."""
    hourly = Cron("30 * * * *", BERLIN)
    assert local(hourly, "2026-10-24 23:45", 3) == [
        "2026-10-25 02:30 +0200",
        "2026-10-25 02:30 +0100",
        "2026-10-25 03:30 +0100",
    ]
    assert local(hourly, "2026-03-29 00:15", 2) == [
        "2026-03-29 01:30 +0100",
        "2026-03-29 03:30 +0200",
    ]


@pytest.mark.parametrize(("word", "fields"), WORDS.items())
def test_a_word_stands_for_its_fields(word: str, fields: str) -> None:
    """@daily and its like name the moments of five fields."""
    start = moment("2026-02-03 04:05")
    assert Cron(word, BERLIN).after(start) == Cron(fields, BERLIN).after(start)


def test_names_of_months_and_days_are_known() -> None:
    """Three letters stand for months and weekdays."""
    assert local(Cron("0 8 * jan mon-fri", "UTC"), "2026-12-31 00:00", 2) == [
        "2027-01-01 08:00 +0000",
        "2027-01-04 08:00 +0000",
    ]


@pytest.mark.parametrize(
    ("expression", "timezone", "message"),
    [
        ("0 0 31 2 *", "UTC", "its day-of-month is not possible"),
        ("* * */20 * 1L", "UTC", "names no date within 50 years"),
        ("0 3 * *", "UTC", "has 4 fields, expected five"),
        ("0 0 3 * * *", "UTC", "has 6 fields, expected five"),
        ("60 3 * * *", "UTC", "its minute is not possible"),
        ("@dayly", "UTC", "did you mean @daily"),
        ("@reboot", "UTC", "there is no cron word"),
        ("0 3 * * *", "Europe/Berln", "did you mean Europe/Berlin"),
        ("0 3 * * *", "Europe", "there is no time zone 'Europe'"),
        ("0 3 * * *", "../../etc/passwd", "there is no time zone"),
    ],
)
def test_what_can_never_come_is_refused(
    expression: str, timezone: str, message: str
) -> None:
    """An impossible cron or an unknown zone is refused in one sentence."""
    with pytest.raises(ValueError, match=message) as caught:
        Cron(expression, timezone)
    assert "\n" not in str(caught.value)


@given(
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 */5 * * *", "15 2,3 * * sun"]),
    st.integers(0, 400 * 86_400),
)
def test_slots_come_later_and_in_order(expression: str, seconds: int) -> None:
    """Every slot is later than the moment asked about, and than the one before."""
    start = moment("2026-01-01 00:00") + seconds
    slots = list(islice(Cron(expression, BERLIN).from_then_on(start), 4))
    assert all(one < two for one, two in zip([start, *slots], slots, strict=False))
    for slot in slots:
        assert datetime.fromtimestamp(slot, ZoneInfo(BERLIN)).second == 0

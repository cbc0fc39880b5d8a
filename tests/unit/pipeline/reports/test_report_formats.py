# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

import pytest

from pipeline.reports import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.000"),
        (0.123456, "0.1235"),
        (0.05, "0.05000"),
        (-0.5, "-0.5000"),
        (12.3456, "12.35"),
        (1234.5678, "1,235"),
        (123456.7, "123,457"),
        (1.5e-15, "1.500e-15"),
        (2.5e9, "2.500e+09"),
    ],
)
def test_numbers_have_four_significant_digits(value: float, text: str) -> None:
    """Small and large numbers alike show four digits that mean something."""
    assert formats.number(value) == text


def test_an_absent_number_says_why() -> None:
    """Nothing is shown as zero or as a dash."""
    assert formats.number(None) == "not measured"
    assert formats.number(None, "no mask") == "not measured (no mask)"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50.0 %"),
        (0.99995, "> 99.9 %"),
        (0.00001, "< 0.1 %"),
        (None, "not measured"),
    ],
)
def test_only_all_is_a_hundred_per_cent(fraction: float | None, text: str) -> None:
    """Rounding never turns almost all into all, nor almost none into none."""
    assert formats.percent(fraction) == text


@pytest.mark.parametrize(
    ("value", "bound"), [(0.40001, 0.4), (0.4 + 1e-12, 0.4), (-2.00001, -2.0)]
)
def test_a_value_beside_its_bound_can_be_told_from_it(
    value: float, bound: float
) -> None:
    """A value that misses its bound by little is not shown as if it met it."""
    assert formats.number_beside(value, bound) != formats.number(bound)
    assert float(formats.number_beside(value, bound)) == pytest.approx(value)


def test_a_value_at_its_bound_is_shown_as_usual() -> None:
    """Equal numbers get no extra digits."""
    assert formats.number_beside(0.4, 0.4) == "0.4000"
    assert formats.number_beside(None, 0.4) == "not measured"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3725.0, "1 h 2 min"),
        (90_000.0, "1 d 1 h"),
        (None, "not recorded"),
    ],
)
def test_lengths_of_time_have_two_units(seconds: float | None, text: str) -> None:
    """A length of time reads at a glance, without sixty seconds in a minute."""
    assert formats.duration(seconds) == text


def test_moments_are_in_utc() -> None:
    """The zone is written out, so that no reader has to guess."""
    assert formats.moment(0.0) == "1970-01-01 00:00:00 UTC"
    assert formats.moment(None) == "not recorded"


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(120.0, "120 items/s"), (0.5, "30.0 items/min"), (None, "not timed")],
)
def test_slow_runs_are_told_by_the_minute(per_second: float | None, text: str) -> None:
    """A speed below one item a second is given by the minute."""
    assert formats.rate(per_second) == text


def test_settings_are_shown_as_they_were_set() -> None:
    """A bound of 0.4 stays 0.4, and 20.0 steps are 20."""
    assert [formats.exact(x) for x in (0.4, 20.0, 0.1 + 0.2)] == [
        "0.4",
        "20",
        "0.30000000000000004",
    ]


def test_nouns_follow_their_number() -> None:
    """One item, two items, three criteria."""
    assert formats.number_of(1, "item") == "1 item"
    assert formats.number_of(2000, "item") == "2,000 items"
    assert formats.number_of(3, "criterion", "criteria") == "3 criteria"

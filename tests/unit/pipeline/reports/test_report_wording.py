# SPDX-License-Identifier: Apache-2.0
"""Every code that can be stored has a sentence, and every value a title."""

from explain.metrics.absence import AbsenceReason
from explain.metrics.cards import METRICS
from pipeline.errors import Reason
from pipeline.reports.wording import (
    ABSENCES,
    REASONS,
    TITLES,
    absence_sentence,
    reason_sentence,
    title_of,
)


def test_every_reason_has_a_sentence() -> None:
    """No report shows a bare code for a failure."""
    assert REASONS.keys() == set(Reason)


def test_every_absence_has_a_sentence() -> None:
    """No report shows a bare code for a missing value."""
    assert ABSENCES.keys() == set(AbsenceReason)


def test_every_metric_value_has_a_title() -> None:
    """Headings are words, not identifiers."""
    cards = METRICS.values()
    values = {value for card in cards for value in card.values_for(complete=True)}
    assert values <= TITLES.keys()


def test_unknown_codes_are_shown_as_they_are() -> None:
    """A code from a later version is not swallowed."""
    assert reason_sentence("new_code") == "new_code"
    assert absence_sentence("new_code") == "new_code"
    assert absence_sentence("zero_gradient") == REASONS["zero_gradient"]
    assert title_of("new_value") == "New value"

# SPDX-License-Identifier: Apache-2.0
"""The weightiest columns of a row."""

import numpy as np
import pytest

from explain.tables.reasons import top_reasons

COLUMNS = ("income", "age", "debt", "job")


def test_reasons_are_ordered_by_magnitude_and_keep_their_sign() -> None:
    """Ties stay in the columns' order, and shares are of the whole row."""
    values = np.array([[1.0, -4.0, 1.0, 2.0]], dtype=np.float32)
    kept = np.array([[True, False, False, True]])
    found = top_reasons(values, COLUMNS, kept=kept, most=3)
    assert [each.column for each in found] == ["age", "job", "income"]
    assert [each.value for each in found] == [-4.0, 2.0, 1.0]
    assert [each.share for each in found] == [0.5, 0.25, 0.125]
    assert [each.kept for each in found] == [False, True, True]
    assert [each.place for each in found] == [1, 3, 0]


def test_a_column_without_part_is_no_reason() -> None:
    """Zeros are left out, however many are asked for."""
    kept = np.zeros(4, dtype=bool)
    assert top_reasons(np.zeros(4), COLUMNS, kept=kept, most=4) == ()
    found = top_reasons(np.array([0, 0, 3.0, 0]), COLUMNS, kept=kept, most=4)
    assert [each.column for each in found] == ["debt"]


def test_another_number_of_columns_is_refused() -> None:
    """A name must never stand beside another column's value."""
    with pytest.raises(ValueError, match="Expected 4 values"):
        top_reasons(np.zeros(3), COLUMNS, kept=np.zeros(4, dtype=bool), most=2)

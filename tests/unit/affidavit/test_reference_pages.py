# SPDX-License-Identifier: Apache-2.0
"""The reference pages say what the code says."""

import pytest

from tests.support.reference_pages import PARTS, part_of


@pytest.mark.parametrize(("page", "name"), sorted(PARTS))
def test_the_page_says_what_the_code_says(page: str, name: str) -> None:
    """Commands, exit codes, states and settings are documented as they are."""
    assert part_of(page, name) == PARTS[page, name]()

# SPDX-License-Identifier: Apache-2.0
"""The page on long runs of the fault suite names faults as the suite has them."""

import re
from pathlib import Path

import pytest

from tests.support.soak_record import FAULTS, PAGE, TABLE, append, fault_of

CHECKOUT = Path(__file__).parents[3]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if re.match(r"\| \d", line)
]


@pytest.mark.parametrize(
    ("nodeid", "fault", "turn"),
    [
        ("a/b.py::test_redis_is_emptied", "redis is emptied", 1),
        ("a/b.py::test_redis_is_emptied[round3]", "redis is emptied", 3),
        ("b.py::test_redis_is_killed[aof-round12]", "redis is killed (aof)", 12),
        ("b.py::test_the_clock_steps[round2--1 hour]", "the clock steps (-1 hour)", 2),
        ("b.py::test_killed[_kill_child]", "killed (kill child)", 1),
    ],
)
def test_a_fault_is_told_from_its_round(nodeid: str, fault: str, turn: int) -> None:
    """The words are the test's own; the round is no part of them."""
    assert fault_of(nodeid) == (fault, turn)


def test_rows_of_one_session_share_a_table(tmp_path: Path) -> None:
    """Another day, or another version, begins another table; no row is lost."""
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nText.\n", encoding="utf-8")
    for heading, row in (("one", "| 1 |"), ("one", "| 2 |"), ("two", "| 3 |")):
        append(page, heading, row)
    assert page.read_text(encoding="utf-8") == (
        f"# Title\n\nText.\n\n### one\n\n{TABLE}| 1 |\n| 2 |\n"
        f"\n### two\n\n{TABLE}| 3 |\n"
    )


def test_each_row_of_the_page_is_of_a_fault_that_exists() -> None:
    """A fault that was renamed or dropped is not claimed to have been held."""
    named = {
        fault_of(f"::{name}")[0]
        for path in (CHECKOUT / FAULTS).glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    for row in ROWS:
        assert row[1].partition(" (")[0] in named
        assert int(row[2]) >= 60
        assert row[5] in {"held", "FAILED"}

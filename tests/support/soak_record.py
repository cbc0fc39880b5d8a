# SPDX-License-Identifier: Apache-2.0
"""Runs the fault suite at length and writes down each fault when it is over.

    python -m tests.support.soak_record                  # all faults, three times each
    python -m tests.support.soak_record --rounds 1 redis # those with the word in them

Each fault is a row of docs/soak.md, under a heading with the day and the versions, so
a page may be filled in parts. Nothing is written of a fault that was broken off.
"""

import argparse
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.postgres_binaries import find_postgres
from tests.support.servers import find_rclone, find_redis

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "soak.md"
FAULTS = "tests/faults"
TABLE = "| UTC | fault | shards | round | seconds | verdict |\n" + "| --- " * 6 + "|\n"


def fault_of(nodeid: str) -> tuple[str, int]:
    """Return what the test does in words, and which of its rounds it is.

    `tests/faults/x.py::test_redis_is_killed[aof-round2]` is `redis is killed (aof)` and
    2; what is done once has no round in its name.
    """
    name, _, inner = nodeid.rpartition("::")[2].rstrip("]").partition("[")
    found = re.search(r"-?round(\d+)-?", inner)
    parameters = inner.replace(found[0], "") if found else inner
    words = name.removeprefix("test_").replace("_", " ")
    if parameters:
        words += f" ({parameters.strip('_').replace('_', ' ')})"
    return words, int(found[1]) if found else 1


def append(page: Path, heading: str, row: str) -> None:
    """The page ends with the row, in the table of that heading."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^### (.*)$", text, re.MULTILINE)
    if not headings or headings[-1] != heading:
        text = f"{text.rstrip()}\n\n### {heading}\n\n{TABLE}"
    page.write_text(f"{text}{row}\n", encoding="utf-8")


class Recorder:
    """A plugin of pytest that writes down each fault.

    Attributes:
        page: Where to.
        heading: Of the table that the rows belong to.
        shards: Of each run.
    """

    def __init__(self, page: Path, heading: str, shards: int) -> None:
        self.page = page
        self.heading = heading
        self.shards = shards

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What was called is a row; so is what could not even be set up."""
        if report.when != "call" and not (report.when == "setup" and report.failed):
            return
        fault, turn = fault_of(report.nodeid)
        verdict = "held" if report.passed else "FAILED"
        now = datetime.now(UTC).strftime("%H:%M")
        row = (
            f"| {now} | {fault} | {self.shards} | {turn} | {report.duration:.0f} |"
            f" {verdict} |"
        )
        append(self.page, self.heading, row)
        sys.stdout.write(f"\n{row}\n")
        sys.stdout.flush()


def surroundings() -> str:
    """Return the day, the versions and the number of cores, in one line."""
    with find_postgres() as binaries:
        postgres = _first_number([str(binaries.folder / "postgres"), "--version"])
    parts = (
        f"{datetime.now(UTC):%Y-%m-%d}",
        f"commit {_commit()}",
        f"Python {sys.version.split()[0]}",
        *(f"{name} {version(name)}" for name in ("torch", "celery", "sqlalchemy")),
        f"Redis {_first_number([find_redis(), '--version'])}",
        f"PostgreSQL {postgres}",
        f"rclone {_first_number([find_rclone(), 'version'])}",
        f"{os.cpu_count()} cores",
    )
    return ", ".join(parts)


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()

    # The page itself changes with each row.
    is_changed = git("status", "--porcelain", "--", ".", ":!docs/soak.md")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if is_changed else "")


def _first_number(command: list[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "of an unknown version"


def main() -> int:
    """Every asked-for fault is done and written down; return pytest's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shards", type=int, default=500, help="of each run (500)")
    parser.add_argument("--rounds", type=int, default=3, help="of each fault (3)")
    parser.add_argument("--page", type=Path, default=PAGE, help="docs/soak.md")
    parser.add_argument("--list", action="store_true", help="only name the faults")
    parser.add_argument("word", nargs="*", help="faults with one of these words alone")
    options = parser.parse_args()
    # The faults read these when they are imported, which pytest does.
    os.environ["AFFIDAVIT_FAULT_SHARDS"] = str(options.shards)
    os.environ["AFFIDAVIT_FAULT_ROUNDS"] = str(options.rounds)
    arguments = ["-q", "-p", "no:randomly", str(CHECKOUT / FAULTS)]
    if options.word:
        arguments += ["-k", " or ".join(options.word)]
    if options.list:
        return pytest.main([*arguments, "--collect-only"])
    recorder = Recorder(options.page, surroundings(), options.shards)
    return pytest.main(arguments, plugins=[recorder])


if __name__ == "__main__":
    raise SystemExit(main())

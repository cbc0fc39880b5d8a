# SPDX-License-Identifier: Apache-2.0
"""What is promised of the pipeline's speed, and what was measured of it so far.

A measurement is a list of figures, one a round. Those of several calls go into one
file and are judged together by their median, so that a long measurement can be taken
in parts, each in a quiet moment.
"""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One line of the table.

    Attributes:
        part: Which part of the benchmark measures it.
        says: What is measured.
        limit: Where the promise ends.
        is_least: Whether the median must be at least the limit, or at most.
        form: How a figure is printed.
    """

    part: str
    says: str
    limit: float
    is_least: bool
    form: str = "{:.2f}"

    def kept(self, figures: list[float]) -> bool:
        """Return whether the median of the figures keeps the promise."""
        middle = statistics.median(figures)
        return middle >= self.limit if self.is_least else middle <= self.limit

    def line(self, figures: list[float]) -> str:
        """Return the promise's row of a Markdown table."""
        sign = ">=" if self.is_least else "<="
        promise = f"| {self.says} {sign} {self.form.format(self.limit)} "
        if not figures:
            return promise + "| not measured | | |"
        middle = self.form.format(statistics.median(figures))
        if len(figures) > 1:
            span = (self.form.format(end) for end in (min(figures), max(figures)))
            middle += f" ({' to '.join(span)})"
        verdict = "kept" if self.kept(figures) else "**missed**"
        return promise + f"| {middle} | {len(figures)} | {verdict} |"


PROMISES = (
    Promise(
        part="embedded",
        says="embedded, items/s over those of a bare DataLoader loop",
        limit=0.90,
        is_least=True,
    ),
    Promise(
        part="worker",
        says="one Celery worker, items/s over embedded",
        limit=0.95,
        is_least=True,
    ),
    Promise(
        part="two-workers",
        says="two workers of one thread, items/s over those of one",
        limit=1.7,
        is_least=True,
    ),
    Promise(
        part="plumbing",
        says="plumbing of a shard over 30 s of work",
        limit=0.02,
        is_least=False,
        form="{:.4f}",
    ),
    Promise(
        part="planning",
        says="planning 1,000,000 items",
        limit=60,
        is_least=False,
        form="{:.0f} s",
    ),
    Promise(
        part="planning",
        says="planning 1,000,000 items, memory above the start",
        limit=300,
        is_least=False,
        form="{:.0f} MB",
    ),
    Promise(
        part="rows",
        says="rows of items to PostgreSQL a second",
        limit=50_000,
        is_least=True,
        form="{:,.0f}",
    ),
    Promise(
        part="recovery",
        says="from SIGKILL to the shard's next claim, with a lease of 20 s",
        limit=35,
        is_least=False,
        form="{:.1f} s",
    ),
)
#: Figures by the promise's words.
Figures = Mapping[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one call measured of one part.

    Attributes:
        part: Of the benchmark.
        at: When it ended, UTC.
        load: Load average of the machine before it began.
        figures: By the promise's words, one a round.
    """

    part: str
    at: str
    load: float
    figures: dict[str, list[float]]


def measured(part: str, figures: Figures, *, load: float) -> Measurement:
    """Return the figures with the time, each under words that are promised."""
    for says in figures:
        if says not in {promise.says for promise in PROMISES if promise.part == part}:
            raise ValueError(f"nothing is promised of {part!r} in the words {says!r}")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    return Measurement(part=part, at=now, load=load, figures=dict(figures))


def promised(part: str) -> list[str]:
    """Return the words of what is promised of the part, in order."""
    return [promise.says for promise in PROMISES if promise.part == part]


def table(measurements: Iterable[Measurement]) -> str:
    """Return the promises with what was measured and the verdicts, in Markdown."""
    found: dict[str, list[float]] = {promise.says: [] for promise in PROMISES}
    for each in measurements:
        for says, figures in each.figures.items():
            found[says] += figures
    rows = [promise.line(found[promise.says]) for promise in PROMISES]
    return "\n".join(
        ["| promise | median | rounds | verdict |", "| --- | --- | --- | --- |", *rows]
    )


def read(path: Path) -> list[Measurement]:
    """Return what the file holds; nothing if there is none."""
    if not path.exists():
        return []
    return [Measurement(**each) for each in json.loads(path.read_text())]


def write(path: Path, measurements: Iterable[Measurement]) -> None:
    """The file holds the measurements; a call that is broken off damages nothing."""
    text = json.dumps([asdict(each) for each in measurements], indent=2)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text + "\n")
    unfinished.replace(path)

# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from affidavit.cli.output import note, time_text

#: Seconds between plain lines when there is no terminal.
PLAIN_INTERVAL_S = 10.0


class Progress(Protocol):
    """Told how much is through; draws at its own pace."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def add(self, count: int) -> None:
        """Count more items as through."""
        ...


def open_progress(title: str, total: int | None, *, quiet: bool = False) -> Progress:
    """Return the progress display that fits where standard error goes."""
    if quiet:
        return SilentProgress()
    if sys.stderr.isatty():
        return BarProgress(title, total)
    return PlainProgress(title, total)


class SilentProgress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def add(self, count: int) -> None:
        """Count more items as through."""


class PlainProgress:
    """Writes a line now and then, for logs."""

    def __init__(self, title: str, total: int | None) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._started = time.monotonic()
        self._spoke = self._started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._spoke > self._started:
            self._speak()

    def add(self, count: int) -> None:
        """Count more items as through."""
        self._done += count
        now = time.monotonic()
        if now - self._spoke >= PLAIN_INTERVAL_S:
            self._spoke = now
            self._speak()

    def _speak(self) -> None:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        speed = self._done / elapsed
        of_total = f" of {self._total:,}" if self._total is not None else ""
        left = ""
        if self._total is not None and 0 < self._done < self._total:
            left = f", {time_text((self._total - self._done) / speed)} left"
        note(f"{self._title}: {self._done:,}{of_total} items, {speed:.1f}/s{left}")


class BarProgress:
    """Draws a Rich bar with items a second and the time left."""

    def __init__(self, title: str, total: int | None) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total, speed="")
        self._started = time.monotonic()
        self._done = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def add(self, count: int) -> None:
        """Count more items as through."""
        self._done += count
        speed = self._done / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, advance=count, speed=f"{speed:.1f} items/s")

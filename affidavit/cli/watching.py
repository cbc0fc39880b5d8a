# SPDX-License-Identifier: Apache-2.0
"""Watching a run until it is final: a live picture on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from affidavit.cli.output import note, printable, time_text

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

    from affidavit.run_look import RunLook, Speed
    from pipeline.services import Services
    from storage.tables import RunTable

#: Seconds between two looks.
WATCH_INTERVAL_S = 1.0


def watch_run(services: "Services", run: str) -> "RunTable":
    """Return the run once it is final, shown on standard error until then."""
    from storage.runs import get_run  # noqa: PLC0415
    from storage.states import FINAL_RUN_STATES  # noqa: PLC0415

    found = get_run(services.engine, run)
    if found.state in FINAL_RUN_STATES:
        return found
    if sys.stderr.isatty():
        return _draw(services, found.id)
    return _write_lines(services, found.id)


def _looks(services: "Services", run_id: str) -> Iterator[tuple["RunLook", "Speed"]]:
    """Yield a look and the speed every second; the last is of the final run."""
    from affidavit.run_look import Speed, look_at  # noqa: PLC0415
    from storage.states import FINAL_RUN_STATES  # noqa: PLC0415

    speed = Speed()
    while True:
        look = look_at(services, run_id)
        speed.see(time.monotonic(), look.progress.items_done)
        yield look, speed
        if look.run.state in FINAL_RUN_STATES:
            return
        time.sleep(WATCH_INTERVAL_S)


def _write_lines(services: "Services", run_id: str) -> "RunTable":
    """Write a line where something changed.

    Speed and time left change with every look, which is no news by itself.
    """
    from storage.states import FINAL_RUN_STATES  # noqa: PLC0415

    last: tuple[str, str] | None = None
    for look, speed in _looks(services, run_id):
        run, progress = look.run, look.progress
        place = f"{run.state}: {progress.items_done:,} of {run.items_total:,} items"
        if run.state in FINAL_RUN_STATES:
            note(place)
            break
        shards = ", ".join(f"{n:,} {s}" for s, n in sorted(progress.shards.items()))
        if (place, shards) != last:
            note(f"{place}, {_speed_text(look, speed)}, shards: {shards}")
        last = (place, shards)
    return run


def _draw(services: "Services", run_id: str) -> "RunTable":
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for look, speed in _looks(services, run_id):
            live.update(picture_of(look, speed), refresh=True)
    return look.run


def picture_of(look: "RunLook", speed: "Speed") -> "Group":
    """Return what a terminal shows of a run at one moment."""
    from rich.console import Group  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    run, progress = look.run, look.progress
    share = progress.items_done / run.items_total if run.items_total else 1.0
    shards = ", ".join(f"{n:,} {s}" for s, n in sorted(progress.shards.items()))
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{run.id} ", "bold"),
            printable(str(run.spec["audit"])),
            " is ",
            (run.state, "bold"),
        ),
        ProgressBar(total=1.0, completed=share, width=60),
        Text(
            f"{progress.items_done:,} of {run.items_total:,} items ({share:.1%}), "
            f"{_speed_text(look, speed)}"
        ),
        Text(f"shards: {shards} (queue {run.queue})"),
    ]
    if look.workers:
        parts.append(_workers_table(look))
    if look.problems:
        parts.append(_problems_table(look))
    parts += [Text(f"warning: {printable(w)}", style="yellow") for w in look.warnings]
    return Group(*parts)


def _workers_table(look: "RunLook") -> "Table":
    from rich.table import Table  # noqa: PLC0415

    batch = int(look.run.plan["batch_size"])
    table = Table(box=None, pad_edge=False, title_justify="left")
    for name in ("worker", "device", "shard", "batches", "items/s", "for"):
        table.add_column(name, justify="left" if name == "worker" else "right")
    for each in look.workers:
        through, busy = each.items_through or 0, each.busy_s or 0.0
        table.add_row(
            printable(each.worker.name),
            printable(each.worker.device),
            f"{each.shard_index:,}",
            f"{-(-through // batch):,}/{-(-(each.items or 0) // batch):,}",
            f"{through / busy:.1f}" if through and busy else "-",
            time_text(busy),
        )
    return table


def _problems_table(look: "RunLook") -> "Table":
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for name in ("problem", "shard", "state", "attempt", "silences"):
        table.add_column(name, justify="left" if name == "problem" else "right")
    for each in look.problems:
        style = "red" if each.state == "dead" else "yellow"
        table.add_row(
            each.error or "lease_expired",
            f"{each.shard_index:,}",
            each.state,
            f"{each.attempt}/{each.max_attempts}",
            f"{each.deaths}",
            style=style,
        )
    return table


def _speed_text(look: "RunLook", speed: "Speed") -> str:
    left = speed.seconds_for(look.run.items_total - look.progress.items_done)
    text = f"{speed.per_second:.1f}/s"
    return text if left is None else f"{text}, {time_text(left)} left"

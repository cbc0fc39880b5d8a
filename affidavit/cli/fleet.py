# SPDX-License-Identifier: Apache-2.0
"""The command that shows who works: workers."""

from typing import Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import print_json, say, time_text, warn


def register(app: typer.Typer) -> None:
    """The command is part of the app."""
    app.command()(workers)


def workers(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Show the live workers and what each is doing."""
    from affidavit.fleet_facts import workers_document  # noqa: PLC0415

    with open_existing(home) as services:
        document = workers_document(services)
    if json:
        print_json(document)
        return
    if not document["workers"]:
        say("No worker is alive; start one with: affidavit worker --queue cpu")
    else:
        say(
            f"{'WORKER':<24}{'QUEUE':<9}{'DEVICE':<8}{'VERSION':<10}{'SEEN':>8}  "
            f"{'DOING':<44}METRICS"
        )
    for worker in document["workers"]:
        say(_line(worker))
    warn(document["warnings"])


def _line(worker: dict[str, Any]) -> str:
    seen = f"{time_text(worker['seen_s'])}"
    line = (
        f"{worker['worker']:<23} {worker['queue']:<8} {worker['device']:<7} "
        f"{worker['version']:<9} {seen:>8}  {_doing(worker):<43} "
        f"{worker['metrics'] or '-'}"
    )
    ahead = worker["clock_ahead_s"]
    if ahead is not None and abs(ahead) > 5:
        word = "ahead of" if ahead > 0 else "behind"
        line += f"  (its clock is {abs(ahead):.0f} s {word} the database's)"
    return line


def _doing(worker: dict[str, Any]) -> str:
    if worker["run"] is None:
        return "-"
    return (
        f"{worker['run']} shard {worker['shard']:,}, "
        f"{worker['items_through']:,}/{worker['items']:,} items, "
        f"{time_text(worker['busy_s'] or 0.0)}"
    )

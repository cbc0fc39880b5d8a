# SPDX-License-Identifier: Apache-2.0
"""Commands that keep running: worker, beat."""

from typing import Annotated

import typer

from affidavit.cli.options import HomeOption, log_events, open_existing
from affidavit.cli.output import print_json
from affidavit.exit_codes import ExitCode
from pipeline.access.policy import Right

EndJsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document on standard output when it has ended."
    ),
]


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(worker)
    app.command()(beat)


def worker(
    *,
    queue: Annotated[
        str,
        typer.Option("--queue", help="gpu, cpu or control (sweeper, reports, ledger)."),
    ] = "cpu",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of this worker [random].")
    ] = None,
    json: EndJsonOption = False,
    home: HomeOption = None,
) -> int:
    """Work on queued audits until stopped."""
    from workers.processes import new_name, run_worker  # noqa: PLC0415

    with open_existing(home, Right.OPERATE) as services:
        log_events(services)
        settings = services.settings
    chosen = name or new_name(queue)
    code = run_worker(settings, queue=queue, name=chosen, quiet=json)
    if json:
        print_json({"worker": chosen, "queue": queue, "exit_code": code})
    return code or ExitCode.DONE


def beat(*, json: EndJsonOption = False, home: HomeOption = None) -> int:
    """Send the control workers a tick now and then, until stopped."""
    from workers.processes import run_beat  # noqa: PLC0415

    with open_existing(home, Right.OPERATE) as services:
        log_events(services)
        settings = services.settings
    code = run_beat(settings, quiet=json)
    if json:
        print_json({"exit_code": code})
    return code or ExitCode.DONE

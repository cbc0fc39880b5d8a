# SPDX-License-Identifier: Apache-2.0
"""Commands that keep running: worker, beat."""

from typing import Annotated

import typer

from affidavit.cli.options import HomeOption, log_events, open_existing
from affidavit.exit_codes import ExitCode


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
    home: HomeOption = None,
) -> int:
    """Work on queued audits until stopped."""
    from workers.processes import run_worker  # noqa: PLC0415

    with open_existing(home) as services:
        log_events(services)
        settings = services.settings
    return run_worker(settings, queue=queue, name=name) or ExitCode.DONE


def beat(*, home: HomeOption = None) -> int:
    """Send the control workers a tick now and then, until stopped."""
    from workers.processes import run_beat  # noqa: PLC0415

    with open_existing(home) as services:
        log_events(services)
        settings = services.settings
    return run_beat(settings) or ExitCode.DONE

# SPDX-License-Identifier: Apache-2.0
"""Commands about how long runs are kept: retention and purge."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from affidavit.cli.options import HomeOption, JsonOption, RunArgument, open_existing
from affidavit.cli.output import print_json, say
from pipeline.access.policy import Right
from pipeline.retention_classes import Retention

_retention = typer.Typer(
    help="Say how long runs are kept.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    _retention.command("list")(list_)
    _retention.command("set")(set_)
    app.add_typer(_retention, name="retention")
    app.command()(purge)


def list_(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """List how long each run is kept, and what is held beyond that."""
    from pipeline.retention import list_kept  # noqa: PLC0415

    with open_existing(home, Right.RETENTION) as services:
        found = list_kept(services)
    if json:
        print_json({"runs": [asdict(one) for one in found]})
        return
    if not found:
        say("There are no runs yet.")
    for one in found:
        until = "not final" if one.due_at is None else f"until {_day(one.due_at)}"
        if one.purged_at is not None:
            until = f"purged {_day(one.purged_at)}"
        held = "  held" if one.held else ""
        say(f"{one.run}  {one.retention:<19} {until}{held}  {one.audit}")


def set_(
    run: RunArgument,
    retention: Annotated[
        Retention,
        typer.Argument(
            help="half_year, twenty_five_months, six_years or ten_years.",
            metavar="CLASS",
        ),
    ],
    *,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Keep a run for longer or shorter than its spec says."""
    from pipeline.retention import set_retention  # noqa: PLC0415

    with open_existing(home, Right.RETENTION) as services:
        kept = set_retention(services, run, retention)
    if json:
        print_json(asdict(kept))
    else:
        say(f"The run {kept.run} is kept as {kept.retention}.")


def purge(
    run: Annotated[
        str | None,
        typer.Argument(help="One run; without it, all that are due.", metavar="[RUN]"),
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go.")
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Delete the items and objects of runs whose time is over; never earlier."""
    from pipeline.retention import purge as purge_runs  # noqa: PLC0415

    with open_existing(home, Right.PURGE) as services:
        found = purge_runs(services, run, dry_run=dry_run)
    if json:
        print_json({"runs": [asdict(one) for one in found], "deleted": not dry_run})
        return
    verb = "would be purged" if dry_run else "are purged"
    say(f"{len(found):,} runs {verb}.")
    for one in found:
        say(f"  {one.run}  {one.items:,} items, {one.objects:,} objects")


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))

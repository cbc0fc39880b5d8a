# SPDX-License-Identifier: Apache-2.0
"""Commands that watch and stop work: status, cancel."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affidavit.cli.options import HomeOption, JsonOption, RunArgument, open_existing
from affidavit.cli.output import print_json, say, warn

if TYPE_CHECKING:
    from pipeline.services import Services


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(status)
    app.command()(pause)
    app.command()(cancel)


def status(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run's id; without it, the latest runs.", metavar="[RUN]"
        ),
    ] = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay until the run is final.")
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show how far runs are."""
    with open_existing(home) as services:
        if watch:
            _watch(services, run or "latest", json=json)
        elif run is None:
            _show_runs(services, json=json)
        else:
            _show_run(services, run, json=json)


def _show_runs(services: "Services", *, json: bool) -> None:
    from storage.runs import get_progress, list_runs  # noqa: PLC0415

    rows = []
    for found in list_runs(services.engine):
        progress = get_progress(services.engine, found)
        rows.append(
            {
                "run": found.id,
                "audit": found.spec["audit"],
                "state": found.state,
                "items": {"total": found.items_total, "done": progress.items_done},
                "shards": progress.shards,
                "created_at": found.created_at,
            }
        )
    if json:
        print_json({"runs": rows})
        return
    if not rows:
        say("There are no runs yet; start one with: affidavit run SPEC")
        return
    say(f"{'RUN':<14}{'STATE':<13}{'ITEMS':>19}  {'BEGAN':<18}AUDIT")
    for row in rows:
        items = row["items"]
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created_at"]))
        through = f"{items['done']:,}/{items['total']:,}"
        say(
            f"{row['run']:<14}{row['state']:<13}{through:>19}  {began:<18}"
            f"{row['audit']}"
        )


def _show_run(services: "Services", run: str, *, json: bool) -> None:
    from affidavit.fleet_facts import run_warnings  # noqa: PLC0415
    from affidavit.run_facts import run_document  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    found = get_run(services.engine, run)
    document = run_document(services, found)
    document["warnings"] = run_warnings(services, found)
    if json:
        print_json(document)
        return
    items = document["items"]
    say(f"Run {found.id} of '{document['audit']}' is {found.state}.")
    if found.error:
        say(f"  error    {found.error}")
    say(f"  items    {items['done']:,} of {items['total']:,}")
    for reason, count in sorted(document["reasons"].items()):
        say(f"           {count:,} failed: {reason}")
    shards = ", ".join(f"{n:,} {s}" for s, n in document["shards"].items() if n)
    say(f"  shards   {shards} (queue {found.queue})")
    for shard in document["dead_shards"]:
        say(
            f"           shard {shard['shard']} is dead after {shard['attempts']} "
            f"attempts: {shard['error']}; affidavit retry {found.id}"
        )
    if document["result_digest"]:
        say(f"  digest   {document['result_digest']}")
    if document["report"]:
        say(f"  report   {document['report']}")
    warn(document["warnings"])


def _watch(services: "Services", run: str, *, json: bool) -> None:
    from affidavit.cli.watching import watch_run  # noqa: PLC0415

    _show_run(services, watch_run(services, run).id, json=json)


def cancel(
    run: RunArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Stop a run; finished shards are kept and `resume` goes on."""
    _stop(run, "cancelled", json=json, home=home)


def pause(
    run: RunArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Hold a run, so that its workers turn to others; `resume` goes on."""
    _stop(run, "paused", json=json, home=home)


def _stop(run: str, how: str, *, json: bool, home: Path | None) -> None:
    """The run is in that state; its shards in work stop at their next heartbeat."""
    from affidavit.run_facts import run_document  # noqa: PLC0415
    from ledger.entries import Action  # noqa: PLC0415
    from pipeline.signing import seal  # noqa: PLC0415
    from storage.runs import get_run, stop_run  # noqa: PLC0415
    from storage.states import RunState  # noqa: PLC0415

    state = RunState(how)
    actions = {
        RunState.CANCELLED: Action.RUN_CANCELLED,
        RunState.PAUSED: Action.RUN_PAUSED,
    }
    with open_existing(home) as services:
        found = get_run(services.engine, run)
        stop_run(
            services.engine,
            found.id,
            state,
            action=actions[state],
            actor=services.actor,
        )
        seal(services)
        document = run_document(services, get_run(services.engine, found.id))
    if json:
        print_json(document)
    else:
        say(
            f"Run {found.id} is {state}; shards under way stop at their next "
            f"heartbeat. Go on with: affidavit resume {found.id}"
        )

# SPDX-License-Identifier: Apache-2.0
"""Commands for the duties of who is responsible: register, dpia and incident."""

import json as json_text
import time
from typing import Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import note, print_json, say
from pipeline.access.policy import Right
from storage.privacy_states import IncidentKind

_incident = typer.Typer(
    help="Record incidents and ask whom they affect.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command("register")(processing_register)
    app.command()(dpia)
    _incident.command("open")(open_)
    _incident.command("list")(list_)
    _incident.command("close")(close)
    _incident.command("affected")(affected)
    app.add_typer(_incident, name="incident")


def processing_register(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Draw the register of processing activities from what is configured."""
    from pipeline.privacy.register import processing_register as draw  # noqa: PLC0415

    with open_existing(home, Right.REGISTER) as services:
        document = draw(services)
    if json:
        print_json(document)
        return
    for one in document["activities"]:
        say(
            f"{one['name']}: {one['subjects']:,} subjects in {one['runs']:,} runs, "
            f"kept {one['retention_days']:,} days"
        )
        for category in one["categories_of_data"]:
            say(f"  {category}")
    _tell_measures(document)


def dpia(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Draw what a data protection impact assessment starts from."""
    from pipeline.privacy.register import dpia_inputs  # noqa: PLC0415

    with open_existing(home, Right.REGISTER) as services:
        document = dpia_inputs(services)
    if json:
        print_json(document)
        return
    for one in document["activities"]:
        say(f"{one['name']}: {json_text.dumps(one['categories_of_data'])}")
    _tell_measures(document)
    for risk in document["residual_risks"]:
        say(f"risk  {risk}")


def _tell_measures(document: dict[str, Any]) -> None:
    for one in document["measures"]:
        say(f"{'on ' if one['on'] else 'OFF'}  {one['measure']}")
    for question in document["to_be_filled_in"]:
        say(f"?    {question}")


def open_(
    *,
    kind: Annotated[
        IncidentKind, typer.Option("--kind", help="What may have happened.")
    ],
    aware_at: Annotated[
        str | None,
        typer.Option("--aware-at", help="When somebody became aware of it [now]."),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Record an incident; its deadline counts from when somebody became aware."""
    from pipeline.privacy.incidents import open_incident  # noqa: PLC0415

    with open_existing(home, Right.INCIDENTS) as services:
        document = open_incident(services, kind, aware_at=aware_at)
    _show(document, json=json)


def list_(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """List the incidents and how long each has until its deadline."""
    from pipeline.privacy.incidents import list_incidents  # noqa: PLC0415

    with open_existing(home, Right.INCIDENTS) as services:
        found = list_incidents(services)
    if json:
        print_json({"incidents": found})
        return
    if not found:
        say("There is no incident.")
    for document in found:
        _tell(document)


def close(
    incident: Annotated[
        str, typer.Argument(help="The incident's id.", metavar="INCIDENT")
    ],
    *,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Note that the authority was told and that the incident is closed."""
    from pipeline.privacy.incidents import close_incident  # noqa: PLC0415

    with open_existing(home, Right.INCIDENTS) as services:
        document = close_incident(services, incident)
    _show(document, json=json)


def affected(
    runs: Annotated[
        list[str], typer.Argument(help="Runs that were shown.", metavar="RUN...")
    ],
    *,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Tell whom the runs are about, by tokens."""
    from pipeline.privacy.incidents import affected as whom  # noqa: PLC0415

    with open_existing(home, Right.INCIDENTS) as services:
        document = whom(services, runs)
    if json:
        print_json(document)
        return
    for one in document["subjects"]:
        say(f"{one['subject']}  {one['items']:,} items")
    note(f"{document['count']:,} subjects.")


def _show(document: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(document)
    else:
        _tell(document)


def _tell(document: dict[str, Any]) -> None:
    deadline = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(document["deadline_at"]))
    if document["closed_at"] is not None:
        state = "closed"
    elif document["overdue"]:
        state = f"OVERDUE since {deadline}"
    else:
        state = f"{document['hours_left']:g} hours left, until {deadline}"
    say(f"Incident {document['incident']} ({document['kind']}): {state}")

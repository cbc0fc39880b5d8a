# SPDX-License-Identifier: Apache-2.0
"""Commands about schedules: schedule add, list, pause, resume, run-now, remove."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import (
    HomeOption,
    JsonOption,
    SpecArgument,
    log_events,
    open_existing,
    open_services,
)
from affidavit.cli.output import note, print_json, say, warn
from affidavit.exit_codes import ExitCode

if TYPE_CHECKING:
    from pipeline.services import Services
    from storage.tables import ScheduleTable

_schedule = typer.Typer(
    help="Run audits again by themselves.", no_args_is_help=True, rich_markup_mode=None
)

ScheduleArgument = Annotated[
    str,
    typer.Argument(
        help="The schedule's id, the first digits of it, or its audit's name.",
        metavar="SCHEDULE",
    ),
]


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    _schedule.command("add")(add)
    _schedule.command("list")(list_)
    _schedule.command("pause")(pause)
    _schedule.command("resume")(resume)
    _schedule.command("run-now")(run_now)
    _schedule.command("remove")(remove)
    _schedule.command("run-due")(run_due)
    app.add_typer(_schedule, name="schedule")


def add(
    spec: SpecArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Take an audit as its spec is now; its section `schedule` says when it runs."""
    from affidavit.schedule_facts import schedule_document  # noqa: PLC0415
    from pipeline.scheduling import schedule_audit  # noqa: PLC0415

    with open_services(home) as services:
        document = schedule_document(services, schedule_audit(services, spec))
    if json:
        print_json(document)
        return
    say(f"The audit '{document['audit']}' has the schedule {document['schedule']}.")
    say(f"  first run  {document['next_slot_local']}")
    say(
        "Control workers with a beat start it; without a queue let cron(8) call: "
        "affidavit schedule run-due"
    )


def list_(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """List the schedules: when they run next, and how their last slot came out."""
    from affidavit.schedule_facts import schedule_document  # noqa: PLC0415
    from storage.schedules import list_schedules  # noqa: PLC0415

    with open_existing(home) as services:
        documents = [
            schedule_document(services, found)
            for found in list_schedules(services.engine)
        ]
    if json:
        print_json({"schedules": documents})
        return
    if not documents:
        say("There are no schedules yet; add one with: affidavit schedule add SPEC")
    for document in documents:
        _tell(document)


def _tell(document: dict[str, Any]) -> None:
    say(
        f"{document['schedule']}  {document['state']:<7} {document['cron']} "
        f"({document['timezone']})  {document['audit']}"
    )
    if document["state"] == "active":
        say(f"  next   {document['next_slot_local']}")
    for slot in document["slots"][:1]:
        run = f", run {slot['run']}" if slot["run"] else ""
        error = f": {slot['error']}" if slot["error"] else ""
        attempts = f" after attempt {slot['attempts']}" if slot["error"] else ""
        say(f"  last   {slot['slot_local']} {slot['state']}{attempts}{error}{run}")
    if document["missed"]:
        say(f"  missed {document['missed']:,} slots")
    if document["spec_file"] != "unchanged":
        say(
            f"  note   the spec's file is {document['spec_file']}; what runs is the "
            "spec as it was added"
        )


def pause(
    schedule: ScheduleArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Make no runs of a schedule until it is resumed."""
    from pipeline.scheduling import pause_schedule  # noqa: PLC0415

    _change(schedule, pause_schedule, "is paused", json=json, home=home)


def resume(
    schedule: ScheduleArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Go on with a paused schedule; slots of the pause are not caught up."""
    from pipeline.scheduling import resume_schedule  # noqa: PLC0415

    _change(schedule, resume_schedule, "is active again", json=json, home=home)


def remove(
    schedule: ScheduleArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Remove a schedule; the runs that it made stay."""
    from pipeline.scheduling import remove_schedule  # noqa: PLC0415

    _change(schedule, remove_schedule, "is removed", json=json, home=home)


def _change(
    name: str,
    change: Callable[["Services", "ScheduleTable"], None],
    now: str,
    *,
    json: bool,
    home: Any,
) -> None:
    from affidavit.schedule_facts import schedule_document  # noqa: PLC0415
    from storage.schedules import get_schedule, read_schedule  # noqa: PLC0415

    with open_existing(home) as services:
        found = get_schedule(services.engine, name)
        change(services, found)
        document = schedule_document(services, read_schedule(services.engine, found.id))
    if json:
        print_json(document)
    else:
        say(f"The schedule {found.id} of '{found.name}' {now}.")


def run_now(
    schedule: ScheduleArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Make a run of a schedule due now, also while it is paused."""
    from affidavit.schedule_facts import schedule_document  # noqa: PLC0415
    from pipeline.scheduling import ask_for_run  # noqa: PLC0415
    from storage.schedules import get_schedule  # noqa: PLC0415

    with open_existing(home) as services:
        found = get_schedule(services.engine, schedule)
        slot = ask_for_run(services, found)
        queued = services.settings.broker_url is not None
        if queued:
            from workers.submission import wake_control  # noqa: PLC0415

            log_events(services)
            wake_control(services)
        document = schedule_document(services, found) | {"requested": slot}
    if json:
        print_json(document)
        return
    say(f"A run of '{found.name}' is due now.")
    if not queued:
        note("No broker is set; start it with: affidavit schedule run-due")


def run_due(*, json: JsonOption = False, home: HomeOption = None) -> int:
    """Run what is due here, in this process; for use from cron(8) without a queue."""
    from affidavit.cli.auditing import interruptible  # noqa: PLC0415
    from affidavit.schedule_facts import due_document, exit_code_of_due  # noqa: PLC0415
    from pipeline.due_slots import anything_due  # noqa: PLC0415

    documents, codes = [], [ExitCode.DONE]
    with open_existing(home) as services, interruptible() as stop:
        log_events(services)
        # Most calls find nothing to do, and need not load torch to say so.
        if anything_due(services.engine, actor=services.actor):
            from pipeline.scheduled_runs import run_due as run_each  # noqa: PLC0415

            def started(run_id: str) -> None:
                if not json:
                    note(f"Run {run_id} begins. Ctrl-C stops at a batch.")

            for done in run_each(services, stop=stop, on_start=started):
                warn(done.warnings)
                document = due_document(services, done)
                documents.append(document)
                codes.append(exit_code_of_due(done, document))
                if not json:
                    _tell_due(document)
        interrupted = stop()
    if json:
        print_json({"ran": documents})
    elif not documents:
        say("No slot is due.")
    return ExitCode.INTERRUPTED if interrupted else max(codes)


def _tell_due(document: dict[str, Any]) -> None:
    run = document["run"]
    if run is not None:
        say(
            f"Run {run['run']} of '{document['audit']}' is {run['state']}: "
            f"{run['items']['done']:,} of {run['items']['total']:,} items explained."
        )
    else:
        say(f"'{document['audit']}': {document['state']}. {document['message']}")

# SPDX-License-Identifier: Apache-2.0
"""Commands that start work: run, submit, resume, retry."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import (
    HomeOption,
    JsonOption,
    RunArgument,
    SpecArgument,
    log_events,
    open_existing,
    open_services,
)
from affidavit.cli.output import note, print_json, say, time_text, warn
from affidavit.cli.progress import open_progress
from affidavit.exit_codes import ExitCode
from pipeline.access.policy import Right

if TYPE_CHECKING:
    from pipeline.any_executor import AnyExecutor
    from pipeline.incremental import NothingNewError
    from pipeline.services import Services
    from storage.tables import RunTable

IncrementalOption = Annotated[
    bool,
    typer.Option(
        "--incremental",
        help="Only items that are new or changed since the runs before.",
    ),
]


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(run)
    app.command()(submit)
    app.command()(resume)
    app.command()(retry)


def run(
    spec: SpecArgument,
    *,
    incremental: IncrementalOption = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Run an audit here, in this process, and write its report."""
    from pipeline.spec_checks import check_spec  # noqa: PLC0415

    with open_services(home, Right.SUBMIT) as services:
        # Before torch is loaded, which takes seconds: most mistakes show here.
        checked = check_spec(services, spec)
        from pipeline.embedded import create_embedded_run, open_embedded  # noqa: PLC0415
        from pipeline.incremental import NothingNewError, wanted_items  # noqa: PLC0415
        from pipeline.planning import prepare_checked  # noqa: PLC0415
        from pipeline.run_origin import RunOrigin  # noqa: PLC0415
        from pipeline.trust import trust_recorded  # noqa: PLC0415

        with trust_recorded(services, checked.written.model.source, embedded=True):
            audit = prepare_checked(services, checked)
        if incremental:
            open_embedded(services)  # what earlier runs know is in the database
        try:
            with (
                open_progress("listing", None, quiet=json) as progress,
                wanted_items(services, audit, incremental=incremental) as (
                    wanted,
                    kept,
                ),
            ):
                run_id = create_embedded_run(
                    services,
                    wanted,
                    on_items=progress.add,
                    origin=RunOrigin(incremental=kept),
                )
        except NothingNewError as exc:
            return _tell_nothing_new(exc, json=json)
        warnings = audit.foreseen.warnings()
        warn(warnings)
        return _work_through(
            services, run_id, audit.executor, json=json, warnings=warnings
        )


def submit(
    spec: SpecArgument,
    *,
    incremental: IncrementalOption = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Queue an audit for the workers."""
    from pipeline.spec_checks import check_spec  # noqa: PLC0415

    with open_existing(home, Right.SUBMIT) as services:
        # Before torch is loaded, which takes seconds: most mistakes show here.
        check_spec(services, spec)
        from pipeline.incremental import NothingNewError  # noqa: PLC0415
        from workers.submission import submit as queue_run  # noqa: PLC0415

        log_events(services)
        try:
            with open_progress("listing", None, quiet=json) as progress:
                run_id, warnings = queue_run(
                    services, spec, on_items=progress.add, incremental=incremental
                )
        except NothingNewError as exc:
            return _tell_nothing_new(exc, json=json)
        warn(warnings)
        document = _document(services, run_id) | {"warnings": warnings}
    if json:
        print_json(document)
    else:
        say(f"Run {run_id} is queued: {document['items']['total']:,} items.")
        say(f"Follow it with: affidavit status {run_id} --watch")
    return ExitCode.DONE


def _tell_nothing_new(nothing: "NothingNewError", *, json: bool) -> ExitCode:
    """Say that no run was made, which is no fault."""
    if json:
        print_json({"run": None, "state": "nothing_new", "incremental": nothing.counts})
    else:
        say(str(nothing))
    return ExitCode.DONE


def resume(
    run: RunArgument, *, json: JsonOption = False, home: HomeOption = None
) -> int:
    """Go on with a run that was interrupted, paused or cancelled."""
    from storage.runs import get_run, resume_run  # noqa: PLC0415
    from storage.states import OPEN_RUN_STATES, RunState  # noqa: PLC0415

    with open_existing(home, Right.SUBMIT) as services:
        found = get_run(services.engine, run)
        # An embedded run whose process died is still open: its leases run out by
        # themselves and it can simply be worked on.
        died = found.queue == "embedded" and (
            found.state in {*OPEN_RUN_STATES, RunState.FINALISING}
        )

        def reopen() -> str:
            if died:
                _tell_of_leases(services, found)
                _record_resuming(services, found)
            else:
                resume_run(services.engine, found.id, actor=services.actor)
            return found.id

        return _go_on(services, found, reopen, json=json)


def _record_resuming(services: "Services", run: "RunTable") -> None:
    """The ledger says that a run whose process died was taken up again."""
    from ledger.entries import Action  # noqa: PLC0415
    from pipeline.deeds import record_deed  # noqa: PLC0415

    record_deed(services, Action.RUN_RESUMED, f"run/{run.id}")


def _tell_of_leases(services: "Services", run: "RunTable") -> None:
    """Say how long a process that died, or one that is still at it, holds its work."""
    import time  # noqa: PLC0415

    from storage.runs import list_shards  # noqa: PLC0415

    held = [run.finaliser_lease_until or 0.0]
    held += [shard.lease_until or 0.0 for shard in list_shards(services.engine, run.id)]
    seconds = max(held) - time.time()
    if seconds > 1:
        note(
            f"Run {run.id} was not stopped properly, or another process works on it; "
            f"what that one holds is free in {time_text(seconds)}."
        )


def retry(
    run: RunArgument,
    *,
    failed_items: Annotated[
        bool,
        typer.Option(
            "--failed-items",
            help="Instead, make a new run of the items that failed.",
        ),
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Give a run's dead shards fresh attempts, or its failed items a new run."""
    from storage.runs import get_run, retry_dead_shards  # noqa: PLC0415

    with open_existing(home, Right.SUBMIT) as services:
        found = get_run(services.engine, run)

        def reopen() -> str:
            if failed_items:
                return _run_failed_items(services, found)
            retry_dead_shards(
                services.engine,
                found.id,
                attempts=int(found.spec["run"]["max_attempts"]),
                actor=services.actor,
            )
            return found.id

        return _go_on(services, found, reopen, json=json)


def _run_failed_items(services: "Services", parent: "RunTable") -> str:
    """Return the id of the new run, whose size is told."""
    from pipeline.failed_items import run_failed_items  # noqa: PLC0415

    made = run_failed_items(services, parent)
    left = f", {made.left_out:,} would fail again as they are" if made.left_out else ""
    note(
        f"Run {made.run_id} takes {made.items:,} items that failed in run "
        f"{parent.id}{left}."
    )
    return made.run_id


def _go_on(
    services: "Services", run: "RunTable", reopen: Callable[[], str], *, json: bool
) -> int:
    """Work through an embedded run, or hand a queued one back to its workers.

    An embedded run is opened again only once its network is loaded, so that nothing
    has changed when that fails.

    Args:
        services: Database and stores.
        run: The run that is gone on with.
        reopen: Opens it, or makes another one of it; returns the id of what to do.
        json: Whether one JSON document is printed.
    """
    if run.queue != "embedded":
        from pipeline.signing import seal  # noqa: PLC0415
        from workers.submission import wake_workers  # noqa: PLC0415

        log_events(services)
        run_id = reopen()
        seal(services)
        wake_workers(services)
        document = _document(services, run_id)
        if json:
            print_json(document)
        else:
            again = " again" if run_id == run.id else ""
            say(f"Run {run_id} is queued{again}.")
        return ExitCode.DONE
    from pipeline.devices import pick_device  # noqa: PLC0415
    from pipeline.executor_building import build_executor  # noqa: PLC0415
    from pipeline.run_plan import RunPlan  # noqa: PLC0415
    from pipeline.spec import AuditSpec  # noqa: PLC0415
    from pipeline.trust import trust_recorded  # noqa: PLC0415

    plan, spec = RunPlan.from_json(run.plan), AuditSpec.model_validate(run.spec)
    with trust_recorded(services, spec.model.source, f"run/{run.id}"):
        executor = build_executor(
            spec,
            plan,
            device=pick_device(plan.device),
            model_sha256=run.model_digest,
            plugins=services.settings.plugins,
            roots=services.roots_noted(plan.roots),
        )
    return _work_through(services, reopen(), executor, json=json)


@contextmanager
def _resumable(run_id: str) -> Iterator[None]:
    """Whatever stops the work within the block, its message says how to go on."""
    from pipeline.errors import InfrastructureError  # noqa: PLC0415
    from storage.errors import StorageError  # noqa: PLC0415

    try:
        yield
    except KeyboardInterrupt:
        note(f"Stopped at once; go on with: affidavit resume {run_id}")
        raise
    except (InfrastructureError, StorageError) as exc:
        sentence = str(exc).rstrip(".")
        raise InfrastructureError(
            f"{sentence}; what was done is kept, go on with: affidavit resume {run_id}"
        ) from exc


def _work_through(
    services: "Services",
    run_id: str,
    executor: "AnyExecutor",
    *,
    json: bool,
    warnings: Sequence[str] = (),
) -> int:
    from pipeline.embedded import run_embedded  # noqa: PLC0415
    from storage.runs import get_progress, get_run  # noqa: PLC0415
    from storage.states import RunState  # noqa: PLC0415

    found = get_run(services.engine, run_id)
    left = found.items_total - get_progress(services.engine, found).items_done
    if not json:
        note(f"Run {run_id}: {left:,} items to explain. Ctrl-C stops at a batch.")
    with (
        _resumable(run_id),
        interruptible() as stop,
        open_progress("explaining", left, quiet=json) as progress,
    ):
        state = run_embedded(
            services, run_id, executor, stop=stop, on_items=progress.add
        )
    document = _document(services, run_id) | {"warnings": list(warnings)}
    if json:
        print_json(document)
    else:
        _tell(document)
    if state in {RunState.INTERRUPTED, RunState.PAUSED, RunState.CANCELLED}:
        note(f"Stopped at a batch boundary; go on with: affidavit resume {run_id}")
        return ExitCode.INTERRUPTED
    if state is RunState.INCOMPLETE:
        errors = sorted({str(shard["error"]) for shard in document["dead_shards"]})
        note(
            f"{len(document['dead_shards'])} shards are dead ({', '.join(errors)}) and "
            f"their items missing; once the cause is mended, try them again with: "
            f"affidavit retry {run_id}"
        )
    if document["criteria"] and not document["criteria_met"]:
        return ExitCode.CRITERIA_NOT_MET
    return ExitCode.CRITERIA_NOT_MET if state is RunState.INCOMPLETE else ExitCode.DONE


def _document(services: "Services", run_id: str) -> dict[str, Any]:
    from affidavit.run_facts import run_document  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    return run_document(services, get_run(services.engine, run_id))


def _tell(document: dict[str, Any]) -> None:
    items = document["items"]
    say(
        f"Run {document['run']} is {document['state']}: {items['done']:,} of "
        f"{items['total']:,} items explained, {items['failed']:,} failed."
    )
    for reason, count in sorted(document["reasons"].items()):
        say(f"  failed: {count:,} x {reason}")
    if document["incremental"]:
        say(f"  left out {document['incremental']['unchanged']:,} unchanged items")
    for verdict in document["criteria"]:
        observed = verdict["observed"]
        shown = "no value" if observed is None else f"{observed:.4g}"
        say(f"  {verdict['verdict']:<12} {verdict['criterion']}   (found {shown})")
    if document["result_digest"]:
        say(f"  digest  {document['result_digest']}")
    if document["report"]:
        say(f"  report  {document['report']}")
        say(f"  verify  affidavit verify {document['run']}")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second one kills as usual."""
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[number])
        note("Stopping at the end of this batch; press Ctrl-C again to stop at once.")

    before: dict[int, Any] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

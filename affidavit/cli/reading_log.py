# SPDX-License-Identifier: Apache-2.0
"""The command that reads the ledger as a log; reading it is logged as well."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import print_json, say
from pipeline.access.policy import Right

if TYPE_CHECKING:
    from pipeline.log_reading import LogFilter, LoggedEntry
    from pipeline.services import Services


def register(app: typer.Typer) -> None:
    """The command is part of the app."""
    app.command()(log)


def log(  # noqa: PLR0913 - each option of the command is named
    *,
    run: Annotated[
        str | None, typer.Option("--run", help="Only entries about this run.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option("--actor", help="Only entries of this actor.")
    ] = None,
    action: Annotated[
        str | None,
        typer.Option("--action", help="Only this action, or kind: run:, shard:, key:."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="From this moment on (ISO 8601, UTC).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Before this moment.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Most entries shown, the newest.")
    ] = 50,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write every signed entry with its proof here."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="jsonl, csv or fhir (AuditEvent R4, a line each); default: the "
            "file's ending.",
        ),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Read the ledger: who did what to what, and when."""
    from pipeline.log_reading import LogFilter, read_log  # noqa: PLC0415

    chosen = _format(export, form)
    bounds = _moment("--since", since), _moment("--until", until)
    right = Right.VERIFY if export is None else Right.EXPORT_EVIDENCE
    with open_existing(home, right) as services:
        if run is not None:
            from storage.runs import get_run  # noqa: PLC0415

            run = get_run(services.engine, run).id
        wanted = LogFilter(
            run=run, actor=actor, action=action, since=bounds[0], until=bounds[1]
        )
        if export is not None:
            count = _export(services, wanted, export, chosen)
        else:
            found = read_log(services, wanted, limit=limit)
    if export is not None:
        if json:
            print_json(
                {
                    "exported_to": str(export.absolute()),
                    "entries": count,
                    "format": chosen,
                }
            )
        else:
            say(str(export.absolute()))
    elif json:
        print_json({"entries": [_document(logged) for logged in found]})
    else:
        for logged in found:
            entry = logged.entry
            say(
                f"{logged.index:>8}  {entry.at[:19]}Z  {entry.action:<18} "
                f"{entry.object}  {entry.actor}"
            )


def _document(logged: "LoggedEntry") -> dict[str, object]:
    entry = logged.entry
    return {
        "index": logged.index,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action.value,
        "object": entry.object,
        "digest": entry.digest,
        "details": dict(entry.details),
        "leaf_hash": logged.leaf_hash.hex(),
    }


def _export(services: "Services", wanted: "LogFilter", path: Path, form: str) -> int:
    from pipeline.log_exports import write_log  # noqa: PLC0415
    from pipeline.log_reading import signed_log  # noqa: PLC0415
    from pipeline.report_access import require_writable  # noqa: PLC0415
    from storage.errors import StateConflictError  # noqa: PLC0415

    require_writable(path)
    exported = signed_log(services, wanted, form=form)
    if exported is None:
        raise StateConflictError(
            "No checkpoint has been signed yet, so that nothing could be proven; the "
            "process that holds the key signs one soon."
        )
    return write_log(exported, path, form)


def _format(export: Path | None, form: str | None) -> str:
    chosen = form or (export.suffix.lstrip(".") if export is not None else "jsonl")
    if chosen not in {"jsonl", "csv", "fhir"}:
        raise typer.BadParameter(
            "it is none of jsonl, csv and fhir", param_hint="--format"
        )
    return chosen


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise typer.BadParameter(
            "it is no moment such as 2026-01-31 or 2026-01-31T09:00:00Z",
            param_hint=option,
        ) from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

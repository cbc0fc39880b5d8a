# SPDX-License-Identifier: Apache-2.0
"""The command that hands out a run's report: report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, RunArgument, open_existing
from affidavit.cli.output import note, print_json, say
from pipeline.access.policy import Right

if TYPE_CHECKING:
    from pipeline.services import Services
    from storage.tables import RunTable


def register(app: typer.Typer) -> None:
    """The command is part of the app."""
    app.command()(report)


def report(
    run: RunArgument,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to copy report.html and report.json to."),
    ] = None,
    pdf: Annotated[
        Path | None,
        typer.Option(
            "--pdf", help="Write it as a PDF with report.json attached (extra pdf)."
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="Write a zip that a stranger can verify offline."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help="Folder for items and aggregates as CSV and Parquet.",
        ),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show where a run's report is, copy it, export it, or pack its evidence."""
    from affidavit.run_facts import run_document  # noqa: PLC0415
    from pipeline.access.authentication import require_right  # noqa: PLC0415
    from pipeline.report_access import hand_out_report  # noqa: PLC0415
    from pipeline.sign_off import signed_by  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    first, *others = _rights_for(out or pdf, bundle, export)
    with open_existing(home, first) as services:
        for right in others:
            require_right(services, right)
        found = get_run(services.engine, run)
        document = run_document(services, found)
        if document["report"] is None:
            raise _not_final(found)
        copies = hand_out_report(services, found, out=out, bundle=bundle, pdf=pdf)
        if Right.READ_RESULTS in {first, *others}:
            document["sign_offs"] = signed_by(services, found)
        if out is not None:
            document["copied_to"] = [str(path) for path in copies]
        for name, path in (("pdf", pdf), ("bundle", bundle)):
            if path is not None:
                document[name] = str(path.absolute())
        if export is not None:
            document["exported_to"] = _export(services, found, export)
    if json:
        print_json(document)
    else:
        _tell(document)


def _export(services: "Services", run: "RunTable", folder: Path) -> list[str]:
    from pipeline.exporting import export_results  # noqa: PLC0415 - pyarrow

    return [str(path) for path in export_results(services, run, folder)]


def _tell(document: dict[str, Any]) -> None:
    for place in document.get("copied_to", [document["report"]]):
        say(place)
    for name in ("pdf", "bundle"):
        if name in document:
            say(document[name])
    for place in document.get("exported_to", ()):
        say(place)
    for one in document.get("sign_offs", ()):
        note(f"signed: {one['verdict']} by {one['signed_by']}")


def _rights_for(
    read: Path | None, bundle: Path | None, export: Path | None
) -> list[Right]:
    """Return the rights that it takes: who may have evidence need not see reports."""
    wanted = {
        Right.EXPORT_EVIDENCE: bundle is not None,
        Right.EXPORT_RESULTS: export is not None,
        Right.READ_RESULTS: read is not None or (bundle is None and export is None),
    }
    return [right for right, is_wanted in wanted.items() if is_wanted]


def _not_final(run: "RunTable") -> Exception:
    from storage.errors import StateConflictError  # noqa: PLC0415

    return StateConflictError(
        f"The run {run.id} is {run.state} and has no report yet; follow it with "
        f"'affidavit status {run.id} --watch'."
    )

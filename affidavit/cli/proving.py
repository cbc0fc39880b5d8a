# SPDX-License-Identifier: Apache-2.0
"""The command that packs evidence for a stranger."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import print_json, say
from pipeline.access.policy import Right

if TYPE_CHECKING:
    from storage.tables import RunTable

#: States of a run whose results and report are there.
_FINISHED = frozenset({"done", "incomplete"})


def register(app: typer.Typer) -> None:
    """The command is part of the app."""
    app.command()(evidence)


def evidence(
    run: Annotated[
        str | None,
        typer.Argument(
            help="The run's id, the first digits of it, or 'latest'.", metavar="[RUN]"
        ),
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The zip, or the verifier, to write.")
    ],
    item: Annotated[
        str | None,
        typer.Option(
            "--item",
            help="Only this item (index, id or file name): nothing of any other.",
        ),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            help="A checkpoint that was kept: prove that the ledger goes on from it.",
        ),
    ] = None,
    verifier: Annotated[
        bool,
        typer.Option(
            "--verifier",
            help="Write the verifier alone, one file that needs only cryptography.",
        ),
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Pack the evidence of a run, or of one item, for a stranger to verify offline."""
    if verifier:
        from pipeline.evidence import standalone_verifier  # noqa: PLC0415

        out.write_bytes(standalone_verifier())
        _tell_evidence({"verifier": str(out.absolute())}, json=json)
        return
    if run is None:
        raise typer.BadParameter("name a run, or 'latest'", param_hint="RUN")
    from ledger.anchors import read_notes  # noqa: PLC0415
    from ledger.errors import KeyFileError  # noqa: PLC0415
    from pipeline.report_access import hand_out_evidence  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    try:
        notes = () if since is None else tuple(read_notes(since))
    except KeyFileError as exc:
        raise typer.BadParameter(str(exc).rstrip("."), param_hint="--since") from exc
    with open_existing(home, Right.EXPORT_EVIDENCE) as services:
        found = get_run(services.engine, run)
        if found.state not in _FINISHED:
            raise _not_final(found)
        hand_out_evidence(services, found, out, item=item, since=notes)
    document = {
        "run": found.id,
        "item": item,
        "bundle": str(out.absolute()),
        "bytes": out.stat().st_size,
    }
    _tell_evidence(document, json=json)


def _tell_evidence(document: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(document)
    else:
        say(document.get("bundle") or document["verifier"])


def _not_final(run: "RunTable") -> Exception:
    from storage.errors import StateConflictError  # noqa: PLC0415

    return StateConflictError(
        f"The run {run.id} is {run.state}; its evidence is complete once it has ended."
    )

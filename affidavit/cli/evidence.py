# SPDX-License-Identifier: Apache-2.0
"""Commands that read one item and check evidence: show, verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import (
    HomeOption,
    JsonOption,
    RunArgument,
    open_existing,
)
from affidavit.cli.output import note, print_json, printable, say
from affidavit.cli.reviewing import tell_reviews
from affidavit.exit_codes import ExitCode
from pipeline.access.policy import Right

if TYPE_CHECKING:
    from ledger.checkpoint import VerifierKey


#: States of a run whose results and report are there.
_FINISHED = frozenset({"done", "incomplete"})


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(show)
    app.command()(verify)


def show(
    run: RunArgument,
    item: Annotated[
        str,
        typer.Argument(
            help="The item's index, its id, or its file's name where only one has it.",
            metavar="ITEM",
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write the picture.")
    ] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show one item: its overlay, its numbers and where its evidence is."""
    from pipeline.item_view import view_item  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    with open_existing(home, Right.READ_RESULTS) as services:
        found = get_run(services.engine, run)
        view = view_item(services, found, item)
        document = view.document
        if view.picture is not None:
            name = f"{found.id}-item-{document['item_index']}{view.suffix}"
            target = out or Path(name)
            target.write_bytes(view.picture)
            document["overlay"] = str(target.absolute())
    if json:
        print_json(document)
    else:
        _tell_item(document)


def _tell_item(document: dict[str, Any]) -> None:
    from pipeline.reports.formats import number, percent  # noqa: PLC0415

    say(
        f"Item {document['item_index']} of run {document['run']}: "
        f"{document['status']}"
        + (f" ({document['reason']})" if document["reason"] else "")
    )
    say(f"  input      {printable(document['uri'])}")
    if document["predicted"] is not None:
        say(f"  predicted  {document['predicted_name']}")
    if document["target"] is not None:
        shown = number(document["score"])
        say(f"  target     {document['target_name']}, score {shown}")
    if document["label"] is not None:
        say(f"  label      {document['label_name']}")
    if document["keep_achieved"] is not None:
        say(
            f"  kept       {percent(document['keep_achieved'])} of the positions "
            f"(asked: {percent(document['keep_requested'])})"
        )
    for reason in document.get("reasons", ()):
        cell = "" if reason["cell"] is None else f" = {printable(reason['cell'])}"
        kept = ", kept" if reason["kept"] else ""
        say(
            f"  reason     {reason['value']:+.4g} {printable(reason['column'])}{cell}"
            f" ({percent(reason['share'])}{kept})"
        )
    for name, value in sorted(document["metrics"].items()):
        say(f"  {name:<24} {number(value)}")
    for name, reason in sorted(document["absences"].items()):
        say(f"  {name:<24} not measured: {reason}")
    evidence = document["evidence"]
    say(f"  artifact   {evidence['artifact']}")
    say(f"  sha256     {evidence['artifact_sha256']}")
    say(f"  record     {evidence['record_digest']}")
    if document.get("overlay"):
        say(f"  overlay    {document['overlay']}")


def verify(
    target: Annotated[
        str,
        typer.Argument(help="A run's id, or an evidence bundle.", metavar="RUN|BUNDLE"),
    ],
    *,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="The ledger's public key, as a vkey line or a file, got from outside.",
        ),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Check the evidence of a run, or of a bundle, and name whatever is wrong."""
    path = Path(target)
    verifier = _read_key(key)
    if path.suffix == ".zip" or path.is_file():
        document = _verify_bundle(path, verifier)
    else:
        from pipeline.verification import verify_run  # noqa: PLC0415
        from storage.runs import find_run  # noqa: PLC0415

        with open_existing(home, Right.VERIFY) as services:
            document = verify_run(
                services, find_run(services.engine, target), key=verifier
            )
    if "state" in document:
        document["finished"] = document["state"] in _FINISHED
    if json:
        print_json(document)
    else:
        _tell_verdict(document)
    return ExitCode.DONE if document["ok"] else ExitCode.INTEGRITY


def _read_key(text: str | None) -> "VerifierKey | None":
    if text is None:
        return None
    from ledger.checkpoint import VerifierKey  # noqa: PLC0415
    from ledger.errors import LedgerError  # noqa: PLC0415
    from ledger.key_file import load_verifier  # noqa: PLC0415

    path = Path(text)
    try:
        return load_verifier(path) if path.is_file() else VerifierKey.parse(text)
    except LedgerError as exc:
        raise typer.BadParameter(
            f"it is neither a file nor a vkey line ({str(exc).rstrip('.')})",
            param_hint="--key",
        ) from exc


def _verify_bundle(path: Path, key: "VerifierKey | None") -> dict[str, Any]:
    from ledger.verifier import verify_bundle  # noqa: PLC0415

    return {"bundle": str(path), **verify_bundle(path, key).to_json()}


def _tell_verdict(document: dict[str, Any]) -> None:
    what = document.get("run") or document.get("bundle")
    if document["ok"]:
        say(
            f"The evidence of {what} holds: {document['entries']:,} ledger entries"
            + (
                f", {document['artifacts']:,} artifacts, {document['items']:,} items"
                if "items" in document
                else ""
            )
            + "."
        )
        if document.get("purged"):
            say("The run was purged when its time was over: only its row was checked.")
        if not document.get("finished", True):
            say(
                f"But the run is not finished, it is {document['state']}: only what is "
                "there so far was checked, and there is no result and no report yet."
            )
    else:
        say(f"The evidence of {what} does not hold:")
        for failure in document["failures"]:
            say(f"  {failure['kind']:<22} {failure['where']}: {failure['message']}")
    tell_reviews(document)
    for anchor in document.get("anchors") or ():
        say(f"Anchored: the first {anchor['entries']:,} entries at {anchor['place']}.")
    if document.get("exposure_window_s"):
        say(
            "Exposure window: what was recorded in the last "
            f"{document['exposure_window_s']:.0f} s before an anchor could still be "
            "exchanged unseen by who has the database and the key."
        )
    if not document.get("signatures_checked", True):
        note(
            "signatures not checked: there is no public key beside the signing key; "
            "give the one that you got from outside with --key."
        )
    elif not document["key_pinned"]:
        note(
            "key not pinned: the signatures were checked against a key that lies "
            "beside the evidence; give the key that you got from outside with --key."
        )

# SPDX-License-Identifier: Apache-2.0
"""Commands about persons, by their tokens: subject find, report, hold, erase, ...

An identity is read from standard input alone: what stands on a command line is seen by
others of the machine and kept in histories.
"""

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import note, print_json, say
from pipeline.access.policy import Right
from storage.privacy_states import ErasureState, HoldReason

if TYPE_CHECKING:
    from storage.tables import ErasureTable

_subject = typer.Typer(
    help="Answer and forget the persons that data is about.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

TokenArgument = Annotated[
    str, typer.Argument(help="The subject's token, see subject find.", metavar="TOKEN")
]
ObjectArgument = Annotated[
    str,
    typer.Argument(help="A subject's token, or run/ID for a run.", metavar="TOKEN"),
]


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    _subject.command("find")(find)
    _subject.command("report")(report)
    _subject.command("export")(export)
    _subject.command("hold")(hold)
    _subject.command("release")(release)
    _subject.command("erase")(erase)
    _subject.command("erasures")(erasures)
    _subject.command("replay")(replay)
    _subject.command("rotate-keys")(rotate_keys)
    app.add_typer(_subject, name="subject")


def find(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Tell the token of the identity on standard input, one line."""
    from ledger.entries import Action  # noqa: PLC0415
    from pipeline.deeds import record_deed  # noqa: PLC0415
    from storage.errors import UnknownSubjectError  # noqa: PLC0415
    from storage.identities.vault import SUBJECT  # noqa: PLC0415

    with open_existing(home, Right.SUBJECTS) as services:
        identity = sys.stdin.readline().rstrip("\r\n")
        token = services.vault.find(SUBJECT, identity) if identity else None
        obj = "subjects" if token is None else f"subject/{token}"
        record_deed(services, Action.SUBJECT_FOUND, obj)
    if token is None:
        raise UnknownSubjectError(
            "Nobody of that identity is known here; it is compared as the manifest "
            "writes it."
        )
    if json:
        print_json({"subject": token})
    else:
        say(token)


def report(
    token: TokenArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Tell what was processed about a subject, how, and who has seen it."""
    from pipeline.privacy.subject_report import subject_report  # noqa: PLC0415

    with open_existing(home, Right.SUBJECTS) as services:
        document = subject_report(services, token)
    if json:
        print_json(document)
        return
    say(f"Subject {token}: {len(document['runs']):,} runs.")
    for run in document["runs"]:
        _tell_run(run)
    for deed in document["disclosures"]:
        say(
            f"  entry {deed['ledger_index']}: {deed['at']} {deed['recipient']} "
            f"{deed['what']} ({deed['purpose'] or 'no purpose said'})"
        )
    for one in document["holds"]:
        say(f"  held: {one['reason']}")


def _tell_run(run: dict[str, Any]) -> None:
    say(
        f"  run {run['run']} of '{run['audit']}': {run['method']['name']}, threshold "
        f"{run['threshold']['policy']}, entry {run['ledger_index']}"
    )
    for item in run["items"]:
        for one in item["explanations"]:
            say(
                f"    item {item['item_index']}: {one['status']} "
                f"{one['reason'] or one['explained'] or ''} entry "
                f"{item['ledger_index']}"
            )


def export(
    token: TokenArgument,
    *,
    out: Annotated[
        Path, typer.Option("--out", help="File to write; it holds personal data.")
    ],
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Write the report that the person gets: with identity and inputs, readable."""
    from pipeline.errors import SpecError  # noqa: PLC0415
    from pipeline.privacy.subject_report import subject_report  # noqa: PLC0415

    with open_existing(home, Right.SUBJECTS) as services:
        if out.exists() or not out.absolute().parent.is_dir():
            raise SpecError(
                f"--out: {out} is there already, or its folder is not; give another."
            )
        document = subject_report(services, token, exported=True)
        with out.open("x", encoding="ascii") as file:
            out.chmod(0o600)
            file.write(json_text.dumps(document, indent=2, allow_nan=False) + "\n")
    if json:
        print_json({"subject": token, "written": str(out.absolute())})
    else:
        say(str(out.absolute()))


def hold(
    token: ObjectArgument,
    *,
    reason: Annotated[
        HoldReason, typer.Option("--reason", help="Why nothing may be deleted.")
    ],
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Put a legal hold on a subject or a run: nothing of it is erased or purged."""
    from pipeline.privacy.holds import hold_object  # noqa: PLC0415

    with open_existing(home, Right.SUBJECTS) as services:
        obj = _object(services, token)
        made = hold_object(services, obj, reason)
    if json:
        print_json({"hold": made.id, "object": obj, "reason": reason.value})
    else:
        say(f"{obj} is held ({reason.value}).")


def release(
    token: ObjectArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Release the legal hold on a subject or a run."""
    from pipeline.privacy.holds import release as release_hold  # noqa: PLC0415

    with open_existing(home, Right.SUBJECTS) as services:
        obj = _object(services, token)
        found = release_hold(services, obj)
    if json:
        print_json({"object": obj, "released": [one.id for one in found]})
    else:
        say(f"{obj} is held no more.")


def _object(services: Any, token: str) -> str:
    """Return what is held, which is there."""
    from pipeline.privacy.erasing import require_known  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    kind, _, run = token.partition("/")
    if kind == "run" and run:
        return f"run/{get_run(services.engine, run).id}"
    require_known(services, token)
    return f"subject/{token}"


def erase(
    token: TokenArgument,
    *,
    identity_verified: Annotated[
        bool,
        typer.Option("--identity-verified", help="You have made sure who asks for it."),
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Forget a subject: rows, artifacts, reports, identity; again, to go on."""
    from pipeline.privacy.erasing import erase as erase_subject  # noqa: PLC0415

    with open_existing(home, Right.SUBJECTS) as services:
        document = _document(
            erase_subject(services, token, identity_verified=identity_verified)
        )
    if json:
        print_json(document)
    else:
        _tell(document)


def erasures(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """List the erasures and how far each is."""
    from ledger.entries import Action  # noqa: PLC0415
    from pipeline.deeds import record_deed  # noqa: PLC0415
    from storage.erasures import erasures_of  # noqa: PLC0415

    with open_existing(home, Right.SUBJECTS) as services:
        record_deed(services, Action.SUBJECT_READ, "erasures")
        found = [_document(row) for row in erasures_of(services.engine)]
    if json:
        print_json({"erasures": found})
        return
    if not found:
        say("Nobody has asked to be forgotten.")
    for document in found:
        _tell(document)


def replay(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Repeat the erasures that a restored backup has undone."""
    from pipeline.privacy.erasing import replay as replay_all  # noqa: PLC0415

    with open_existing(home, Right.SUBJECTS) as services:
        found = [_document(row) for row in replay_all(services)]
    if json:
        print_json({"repeated": found})
        return
    say(f"{len(found):,} erasures were repeated.")
    for document in found:
        _tell(document)


def rotate_keys(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Wrap the living keys of subjects under a new one, and delete the old ones."""
    from ledger.entries import Action  # noqa: PLC0415
    from pipeline.deeds import record_deed  # noqa: PLC0415

    with open_existing(home, Right.OPERATE) as services:
        record_deed(services, Action.KEYS_ROTATED, "identities")
        done = services.vault.rotate()
    if json:
        print_json(
            {"epoch": done.epoch, "keys": done.keys, "forgotten": done.forgotten}
        )
    else:
        say(f"{done.keys:,} keys are under the new epoch {done.epoch}.")


def _document(row: "ErasureTable") -> dict[str, Any]:
    return {
        "erasure": row.id,
        "subject": row.subject_token,
        "state": str(row.state),
        "requested_by": row.requested_by,
        "requested_at": row.created_at,
        "counts": row.counts,
        "certificate": row.certificate,
    }


_NEXT = {
    ErasureState.REQUESTED: "make sure who asks, then add --identity-verified",
    ErasureState.HELD: "a legal hold outranks it; do it again once that is released",
    ErasureState.CHECKED: "do it again where the signing key is, for the certificate",
}


def _tell(document: dict[str, Any]) -> None:
    say(f"Erasure {document['erasure']} of {document['subject']}: {document['state']}")
    for name, number in sorted((document["counts"] or {}).items()):
        say(f"  {name:<11} {number:,}")
    following = _NEXT.get(ErasureState(document["state"]))
    if following:
        note(following)
    if document["certificate"]:
        say(document["certificate"])

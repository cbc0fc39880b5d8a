# SPDX-License-Identifier: Apache-2.0
"""The command that lists a run's items: items."""

import json as json_text
import shutil
import sys
import tempfile
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, RunArgument, open_existing
from affidavit.cli.output import note, printable, say
from pipeline.access.policy import Right

#: Bytes of a document that wait in memory; more go to a temporary file.
SPOOLED_BYTES = 1_000_000


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(items)


def items(
    run: RunArgument,
    *,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only the items that failed.")
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """List a run's items: place, status, reason, and the file (or its token)."""
    from pipeline.item_listing import read_items  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    with open_existing(home, Right.READ_RESULTS) as services:
        found = get_run(services.engine, run)
        listed = read_items(services, found, failed=failed)
        if json:
            _print_document({"run": found.id, "state": found.state}, listed)
        else:
            _print_lines(found.id, listed, failed=failed)


def _print_lines(run: str, listed: Iterable[dict[str, Any]], *, failed: bool) -> None:
    count = 0
    for count, item in enumerate(listed, start=1):  # noqa: B007 - counts what was listed
        reason = item["reason"] or "-"
        say(
            f"{item['item_index']:>8}  {item['status']:<8} {reason:<22} "
            f"{printable(item['uri'])}"
        )
    if count == 0:
        note(f"No item of run {run} failed." if failed else f"Run {run} has no item.")


def _print_document(head: dict[str, Any], listed: Iterable[dict[str, Any]]) -> None:
    """The document is on standard output: whole, or not at all.

    It is as long as the run, so it is made beside the memory, in a file without name.
    """
    with tempfile.SpooledTemporaryFile(
        SPOOLED_BYTES, mode="w+", encoding="ascii"
    ) as text:
        text.write(json_text.dumps(head)[:-1] + ', "items": [')
        count = 0
        for item in listed:
            text.write(",\n  " if count else "\n  ")
            text.write(json_text.dumps(item, allow_nan=False))
            count += 1
        text.write(f'\n], "count": {count}}}\n')
        text.seek(0)
        shutil.copyfileobj(text, sys.stdout)

# SPDX-License-Identifier: Apache-2.0
"""The command that tidies the object store: collect."""

from typing import Annotated

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import print_json, say


def register(app: typer.Typer) -> None:
    """The command is part of the app."""
    app.command()(collect)


def collect(
    *,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than",
            min=0,
            help="Hours; without it AFFIDAVIT_ORPHAN_AGE_H.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go.")
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Delete what lost attempts left in the store; each deletion is in the ledger."""
    from pipeline.orphans import collect_orphans  # noqa: PLC0415
    from pipeline.signing import seal  # noqa: PLC0415

    with open_existing(home) as services:
        hours = services.settings.orphan_age_h if older_than is None else older_than
        found = collect_orphans(services, older_than_s=hours * 3600, dry_run=dry_run)
        if found and not dry_run:
            seal(services)
    size = sum(orphan.size_bytes for orphan in found)
    if json:
        objects = [
            {"key": o.key, "bytes": o.size_bytes, "age_h": round(o.age_s / 3600, 2)}
            for o in found
        ]
        print_json({"objects": objects, "bytes": size, "deleted": not dry_run})
        return
    verb = "would go" if dry_run else "deleted"
    say(f"{len(found):,} objects {verb}, {size:,} bytes, older than {hours:g} hours.")
    for orphan in found[:20]:
        say(f"  {orphan.key}")

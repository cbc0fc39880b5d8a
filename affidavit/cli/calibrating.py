# SPDX-License-Identifier: Apache-2.0
"""Commands that fit thresholds on finished runs: calibrate, learn."""

import json as json_text
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, RunArgument, open_existing
from affidavit.cli.output import print_json, say
from affidavit.cli.progress import open_progress
from pipeline.access.policy import Right

if TYPE_CHECKING:
    from explain.thresholds.calibration import ClassFraction

ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the file if it is there.")
]


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(calibrate)
    app.command()(learn)


def calibrate(
    run: RunArgument,
    *,
    out: Annotated[
        Path, typer.Option("--out", help="File to write the calibration to.")
    ] = Path("calibration.json"),
    min_items: Annotated[
        int,
        typer.Option(
            "--min-items",
            min=1,
            help="Classes with fewer items with masks share the pooled fraction.",
        ),
    ] = 5,
    force: ForceOption = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Fit the fraction to keep, a class at a time, on a run that has masks."""
    from pipeline.calibrating import calibrate as fit  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    _require_place(out, force=force)
    with open_existing(home, Right.SUBMIT) as services:
        found = get_run(services.engine, run)
        with open_progress("sweeping", found.items_total, quiet=json) as progress:
            fitted = fit(services, found, min_items=min_items, on_items=progress.add)
        names: list[str] | None = found.plan["classes"]
    _write(out, fitted.document())
    document: dict[str, Any] = {
        "calibration": str(out.absolute()),
        "digest": fitted.digest,
        **fitted.document(),
    }
    if json:
        print_json(document)
        return
    say(f"{out}: SHA-256 {fitted.digest}")
    _tell("all classes", fitted.pooled)
    for row in fitted.classes:
        _tell(names[row.target] if names and row.target is not None else "", row)
    if fitted.excluded:
        say(f"  left out: {fitted.excluded:,} items whose mask or map shows nothing")
    say(f"Use it with: threshold: {{policy: calibrated, calibration: {out}}}")


def learn(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Runs of one data source under different policies.", metavar="RUN..."
        ),
    ],
    *,
    quality: Annotated[
        str,
        typer.Option(
            "--quality", help="The measured value, between 0 and 1, that counts."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="File to write the table to.")
    ] = Path("policies.json"),
    force: ForceOption = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Learn from finished runs which threshold policy suits which kind of item."""
    from pipeline.learning import learn as fit  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    _require_place(out, force=force)
    with open_existing(home, Right.SUBMIT) as services:
        found = [get_run(services.engine, run) for run in runs]
        total = sum(run.items_total for run in found)
        with open_progress("reading", total, quiet=json) as progress:
            learned = fit(services, found, quality=quality, on_items=progress.add)
    table = learned.table
    _write(out, table.document())
    if json:
        print_json(
            {"table": str(out.absolute()), "digest": table.digest, **table.document()}
        )
        return
    say(f"{out}: SHA-256 {table.digest}")
    for label, items, mean in learned.arms:
        say(f"  {label:<44.44} mean reward {mean:+.4f} over {items:,} items")
    say(f"Use it with: threshold: {{policy: learned, table: {out}}}")


def _require_place(out: Path, *, force: bool) -> None:
    """Nothing happens if the file can be made where it is wanted."""
    from pipeline.errors import SpecError  # noqa: PLC0415

    if not out.absolute().parent.is_dir():
        raise SpecError(
            f"--out: there is no folder {out.absolute().parent}; make it first."
        )
    if out.exists() and not force:
        raise SpecError(
            f"--out: {out} is there already, and audits may name it; give another name,"
            " or --force to replace it."
        )


def _write(out: Path, document: Mapping[str, Any]) -> None:
    """The file holds the whole document or, after a crash, what it held before."""
    # Exactly the bytes that the digest is of, so that `sha256sum` gives it too.
    text = json_text.dumps(document, sort_keys=True, separators=(",", ":"))
    partial = out.with_name(out.name + ".partial")
    partial.write_text(text, encoding="ascii")
    os.replace(partial, out)  # noqa: PTH105 - atomic, and says so


def _tell(name: str, row: "ClassFraction") -> None:
    label = name if row.target is None else f"{row.target} {name}"
    say(
        f"  {label.strip():<28.28} keep {row.keep:.2f}"
        f" ({row.keep_low:.2f} to {row.keep_high:.2f}), mean IoU {row.iou:.3f}"
        f" ({row.iou_low:.3f} to {row.iou_high:.3f}) over {row.items:,} items"
    )

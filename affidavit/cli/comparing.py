# SPDX-License-Identifier: Apache-2.0
"""The command that sets methods and policies beside each other: compare."""

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing, open_services
from affidavit.cli.output import note, print_json, say

if TYPE_CHECKING:
    from pipeline.comparison import Contender
    from pipeline.services import Services


def register(app: typer.Typer) -> None:
    """The command is part of the app."""
    app.command()(compare)


def compare(  # noqa: PLR0913 - one an option
    spec: Annotated[
        Path | None,
        typer.Argument(
            help="The spec whose items are explained several ways.", metavar="[SPEC]"
        ),
    ] = None,
    *,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="A method to compare; give it several times."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="A policy to compare; give it several times."),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            help="A finished run, in place of SPEC; the first is the reference.",
        ),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option("--quality", help="The value of the Pareto front."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="The largest difference that does not matter."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for comparison.html and .json.")
    ] = Path("comparison"),
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Compare methods and policies over the same items, pair by pair."""
    from pipeline.comparison import Contender, compare_runs  # noqa: PLC0415
    from pipeline.errors import SpecError  # noqa: PLC0415

    if (spec is None) == (not run):
        raise SpecError("give either a SPEC, or --run several times.")
    if run and (method or policy):
        raise SpecError("--method and --policy go with a SPEC, not with --run.")
    with open_existing(home) if run else open_services(home) as services:
        if spec is not None:
            contenders = _run_all(services, spec, method or [], policy or [])
        else:
            from storage.runs import get_run  # noqa: PLC0415

            contenders = [
                Contender(run=get_run(services.engine, name)) for name in run or []
            ]
        document = compare_runs(services, contenders, margin=margin, quality=quality)
    document["written_to"] = _write(out, document)
    if json:
        print_json(document)
    else:
        _tell(document)


def _run_all(
    services: "Services", spec: Path, methods: list[str], policies: list[str]
) -> "list[Contender]":
    from pipeline.spec_checks import check_spec  # noqa: PLC0415

    checked = check_spec(services, spec)
    from pipeline.comparison_runs import run_variant, variants  # noqa: PLC0415 - torch

    wanted = variants(checked, methods, policies)
    found = []
    for place, variant in enumerate(wanted, start=1):
        written = variant.written
        note(
            f"Run {place} of {len(wanted)}: {written.explain.method}, "
            f"{written.threshold.policy}."
        )
        found.append(run_variant(services, variant))
    return found


def _write(out: Path, document: dict[str, Any]) -> list[str]:
    from pipeline.reports.comparison import render_comparison  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    page, data = out / "comparison.html", out / "comparison.json"
    page.write_text(render_comparison(document), encoding="utf-8")
    text = json_text.dumps(document, indent=2, allow_nan=False) + "\n"
    data.write_text(text, encoding="utf-8")
    return [str(page.absolute()), str(data.absolute())]


def _tell(document: dict[str, Any]) -> None:
    from pipeline.reports.formats import number  # noqa: PLC0415

    for row in document["runs"]:
        say(
            f"  {row['label']:<40.40} {document['quality']} "
            f"{number(row['means'][document['quality']])}, "
            f"{number(row['seconds_per_item'])} s and {number(row['bytes_per_item'])} "
            f"bytes an item{', on the front' if row['on_front'] else ''}"
        )
    for test in document["tests"]:
        say(
            f"  {test['verdict']:<7} {test['value']}: {test['label']:.40}, "
            f"p {number(test['p_holm'])} over {test['pairs']:,} pairs"
        )
    for place in document["written_to"]:
        say(place)

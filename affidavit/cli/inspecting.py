# SPDX-License-Identifier: Apache-2.0
"""The command that looks at a network: inspect."""

import re
from typing import Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_services
from affidavit.cli.output import print_json, say, warn
from affidavit.exit_codes import ExitCode
from pipeline.errors import SpecError


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command(name="inspect")(inspect)


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="torchvision:NAME, timm:NAME or a registered architecture.",
            metavar="MODEL",
        ),
    ],
    *,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Weights file; without it seeded numbers."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Its inputs in pixels, HEIGHTxWIDTH or one side [224]."
        ),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Say what would be explained of a network, by what, and why; test it on noise."""
    sides = _sides(size)
    with open_services(home, None) as services:
        from pipeline.inspecting import inspect_model  # noqa: PLC0415

        found = inspect_model(services, model, weights=weights, size=sides)
    document = found.document()
    warn(document["warnings"])
    if json:
        print_json(document)
    elif "kind" in document:
        _tell_kind(document)
    else:
        _tell(document)
    return ExitCode.DONE if found.sound else ExitCode.USAGE


def _sides(size: str | None) -> tuple[int, int] | None:
    """Return height and width in pixels.

    Raises:
        SpecError: the text is no size.
    """
    if size is None:
        return None
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", size)
    if match is None or 0 in {int(side) for side in match.groups() if side}:
        raise SpecError(f"--size: expected HEIGHTxWIDTH or one side, got '{size}'.")
    height = int(match[1])
    return height, int(match[2] or height)


def _tell_kind(found: dict[str, Any]) -> None:
    """Say to a person what was found of a network that takes no images."""
    weights = found["weights"]
    say(f"{found['model']} is a {found['family']}.")
    say(f"  weights    {'seeded numbers' if weights is None else 'SHA-256 ' + weights}")
    say(f"  kind       {found['kind']}; maps over {found['units']}")
    others = ", ".join(name for name in found["methods"] if name != found["method"])
    say(f"  method     {found['method']}; also {others}")
    say(f"  baseline   {found['baseline']}")
    for reason in found["reasons"]:
        say(f"  - {reason}")
    say("  self-test  needs items; it is made before each run, and by 'plan'")


def _tell(found: dict[str, Any]) -> None:
    """Say the same to a person."""
    weights = found["weights"]
    height, width = found["map"] or ("?", "?")
    say(f"{found['model']} is a {found['family']} of {found['classes']:,} classes.")
    say(f"  weights    {'seeded numbers' if weights is None else 'SHA-256 ' + weights}")
    say(f"  input      {' x '.join(str(side) for side in found['input'])}")
    say(f"  layer      {found['layer']}")
    say(f"  layout     {found['layout']}; maps of {height} x {width}")
    say(f"  method     {found['method']}")
    say(f"  baseline   {found['baseline']}")
    for reason in found["reasons"]:
        say(f"  - {reason}")
    for check in found["self_test"]["checks"]:
        said = "" if check["passed"] else f": {check['said']}"
        say(f"  {'passed' if check['passed'] else 'FAILED':<10} {check['name']}{said}")

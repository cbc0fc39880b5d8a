# SPDX-License-Identifier: Apache-2.0
"""Commands that list what there is: methods, policies, metrics."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from affidavit.cli.options import JsonOption
from affidavit.cli.output import print_json, say
from pipeline.errors import SpecError


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(methods)
    app.command()(policies)
    app.command()(metrics)


def methods(*, json: JsonOption = False) -> None:
    """List the explanation methods."""
    from explain.methods.cards import METHODS  # noqa: PLC0415

    if json:
        print_json({name: asdict(card) for name, card in METHODS.items()})
        return
    for name, card in METHODS.items():
        say(f"{name:<12} {card.title}: {card.source}")


def policies(*, json: JsonOption = False) -> None:
    """List the threshold policies."""
    from explain.thresholds.cards import POLICIES  # noqa: PLC0415

    if json:
        print_json({name: asdict(card) for name, card in POLICIES.items()})
        return
    for name, card in POLICIES.items():
        say(f"{name:<12} {card.rule}")


def metrics(
    name: Annotated[
        str | None, typer.Argument(help="One metric's name.", metavar="[NAME]")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """List the metrics, or show the definition card of one."""
    from explain.metrics.cards import METRICS  # noqa: PLC0415

    if name is not None and name not in METRICS:
        raise SpecError(
            f"There is no metric '{name}'; there are {', '.join(sorted(METRICS))}."
        )
    chosen = METRICS if name is None else {name: METRICS[name]}
    cards: dict[str, dict[str, Any]] = {key: asdict(c) for key, c in chosen.items()}
    if json:
        print_json(cards)
    elif name is None:
        for key, card in METRICS.items():
            say(f"{key:<20} {', '.join(card.values)}: {card.direction}; {card.source}")
    else:
        for field, value in cards[name].items():
            say(f"{field:<18} {value}")

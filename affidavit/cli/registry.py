# SPDX-License-Identifier: Apache-2.0
"""Commands that list what there is: kinds, methods, policies, metrics."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from affidavit.cli.options import JsonOption
from affidavit.cli.output import print_json, say
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from explain.methods.card import MethodCard
    from explain.metrics.card import MetricCard
    from explain.thresholds.card import PolicyCard
    from pipeline.kinds.card import KindCard


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(kinds)
    app.command()(methods)
    app.command()(policies)
    app.command()(metrics)


def kinds(
    name: Annotated[
        str | None, typer.Argument(help="One kind's name.", metavar="[NAME]")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """List the kinds of items beside images, or show what an audit says of one."""
    from pipeline.kinds.cards import KIND_CARDS  # noqa: PLC0415

    if name is None and not json:
        for key, card in KIND_CARDS.items():
            say(f"{key:<10} {card.title}; units are {card.map_kind}")
        return
    _show("kind", name, KIND_CARDS, json=json)


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One method's name.", metavar="[NAME]")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """List the explanation methods, or show one's definition and parameters."""
    from explain.methods.cards import METHODS  # noqa: PLC0415

    if name is None and not json:
        for key, card in METHODS.items():
            say(f"{key:<21} {card.title}: {card.source}; {card.cost}")
        return
    _show("method", name, METHODS, json=json)


def policies(
    name: Annotated[
        str | None, typer.Argument(help="One policy's name.", metavar="[NAME]")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """List the threshold policies, or show one's rule and parameters."""
    from explain.thresholds.cards import POLICIES  # noqa: PLC0415

    if name is None and not json:
        for key, card in POLICIES.items():
            say(f"{key:<15} {card.rule} ({card.source})")
        return
    _show("policy", name, POLICIES, json=json)


def _show(
    kind: str,
    name: str | None,
    known: "Mapping[str, MethodCard | PolicyCard | MetricCard | KindCard]",
    *,
    json: bool,
) -> None:
    """Print one card, or with --json all of them."""
    if name is not None and name not in known:
        raise SpecError(
            f"There is no {kind} '{name}'; there are {', '.join(sorted(known))}."
        )
    cards = {
        key: card.document()
        for key, card in known.items()
        if name is None or key == name
    }
    if json:
        print_json(cards)
        return
    for field, value in cards[str(name)].items():
        if field != "parameters":
            say(f"{field:<18} {value}")
    for key, parameter in known[str(name)].parameters.items():
        default = "required" if parameter.default is None else parameter.default
        say(
            f"{key:<18} {parameter.meaning}; {parameter.range_in_words()};"
            f" default {default}"
        )


def metrics(
    name: Annotated[
        str | None, typer.Argument(help="One metric's name.", metavar="[NAME]")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """List the metrics, or show the definition card of one."""
    from explain.metrics.cards import METRICS  # noqa: PLC0415

    if name is None and not json:
        for key, card in METRICS.items():
            say(f"{key:<25} {card.family}: {', '.join(card.values)}; {card.source}")
        return
    _show("metric", name, METRICS, json=json)

# SPDX-License-Identifier: Apache-2.0
"""The command that plans how many items an audit needs: power."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import print_json, say

if TYPE_CHECKING:
    from explain.statistics import Planned
    from pipeline.sizing import Spread

_MEANINGS = {
    "criterion": "a criterion with confidence passes, the mean being that much better",
    "paired": "a paired comparison sees a mean difference of the margin",
    "equivalence": "two explanations differ by less than the margin, if they agree",
}


def register(app: typer.Typer) -> None:
    """The command is part of the app."""
    app.command()(power)


def power(  # noqa: PLR0913 - one an option
    *,
    margin: Annotated[
        float,
        typer.Option("--margin", help="The difference of means that matters."),
    ],
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="The value, such as deletion_auc."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--from", help="An earlier run whose values tell how much they vary."
        ),
    ] = None,
    sd: Annotated[
        float | None,
        typer.Option("--sd", help="The values' standard deviation, where no run is."),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option("--alpha", help="One minus the confidence; the tests' level."),
    ] = 0.05,
    target: Annotated[
        float,
        typer.Option("--power", help="How likely what is true shall be shown."),
    ] = 0.8,
    correlation: Annotated[
        float,
        typer.Option(
            "--correlation",
            help="Between two explanations of one item, for paired comparisons.",
        ),
    ] = 0.5,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Say how many items the next audit needs to show what it shall show."""
    from pipeline.errors import SpecError  # noqa: PLC0415
    from pipeline.sizing import Question, Spread, plan_sizes, spread_of  # noqa: PLC0415

    question = Question(
        margin=margin, alpha=alpha, power=target, correlation=correlation
    )
    if (run is None) == (sd is None):
        raise SpecError("give either --from RUN with --metric, or --sd.")
    run_id = None
    if sd is not None:
        spread = Spread(sd=sd)
    else:
        from storage.runs import get_run  # noqa: PLC0415

        if metric is None:
            raise SpecError("--from needs --metric, which names the value.")
        with open_existing(home) as services:
            found = get_run(services.engine, str(run))
            run_id = found.id
            spread = spread_of(services, found, metric)
    plans = plan_sizes(spread, question)
    document = _document(run_id, metric, spread, plans) | {
        "margin": margin,
        "alpha": alpha,
        "power": target,
        "correlation": correlation,
    }
    if json:
        print_json(document)
    else:
        _tell(document)


def _document(
    run_id: str | None,
    metric: str | None,
    spread: "Spread",
    plans: dict[str, "Planned"],
) -> dict[str, Any]:
    return {
        "run": run_id,
        "metric": metric,
        "sd": spread.sd,
        "mean": spread.mean,
        "values": spread.n,
        "design_effect": spread.design_effect,
        "plans": {
            kind: {
                "items": plan.items,
                "independent": plan.n,
                "power": plan.power,
                "meaning": _MEANINGS[kind],
            }
            for kind, plan in plans.items()
        },
    }


def _tell(document: dict[str, Any]) -> None:
    behind = f" over {document['values']:,} values" if document["values"] else ""
    say(f"Standard deviation {document['sd']:.4g}{behind}.")
    if document["design_effect"] > 1:
        say(
            f"Repeated subjects make it {document['design_effect']:.2f} times as many "
            "items."
        )
    for plan in document["plans"].values():
        say(f"  {plan['items']:>11,} items  {plan['meaning']}")
    say(
        f"Margin {document['margin']:g}, alpha {document['alpha']:g}, power "
        f"{document['power']:g}; pairs correlate by {document['correlation']:g}."
    )

# SPDX-License-Identifier: Apache-2.0
"""Commands by which people vouch for a run: sign-off and reverify."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.auditing import interruptible
from affidavit.cli.options import HomeOption, JsonOption, RunArgument, open_existing
from affidavit.cli.output import note, print_json, say
from affidavit.cli.progress import open_progress
from affidavit.exit_codes import ExitCode
from pipeline.access.policy import Right
from storage.review_states import SignOffVerdict

if TYPE_CHECKING:
    from pipeline.reverification.outcome import Outcome


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command("sign-off")(sign_off)
    app.command()(reverify)


def sign_off(
    run: RunArgument,
    *,
    verdict: Annotated[
        SignOffVerdict, typer.Option("--verdict", help="What you say of the report.")
    ],
    comment: Annotated[
        str | None,
        typer.Option("--comment", help="Why; needed to reject. Name no person in it."),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Sign a run's report: accept or reject it, for the ledger."""
    from pipeline.sign_off import sign_off as sign  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    with open_existing(home, Right.SIGN_OFF) as services:
        row = sign(services, get_run(services.engine, run), verdict, comment=comment)
    document = {
        "run": row.run_id,
        "sign_off": row.id,
        "verdict": row.verdict,
        "report_verdict": row.report_verdict,
        "report_sha256": row.report_sha256,
        "signed_by": row.signed_by,
        "signed_at": row.signed_at,
    }
    if json:
        print_json(document)
        return
    say(f"The report of run {row.run_id} is signed: {row.verdict} by {row.signed_by}.")
    say(f"  its own verdict  {row.report_verdict}")
    say(f"  report.json      {row.report_sha256}")


def reverify(
    run: RunArgument,
    *,
    fraction: Annotated[
        float,
        typer.Option("--fraction", help="Share of the items, above 0 and at most 1."),
    ] = 0.05,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Compute a random part of a run again and compare it with what is stored."""
    from pipeline.reverification.running import draw_for, open_context  # noqa: PLC0415
    from pipeline.reverification.running import reverify as compute  # noqa: PLC0415
    from storage.runs import get_run  # noqa: PLC0415

    with open_existing(home, Right.REVERIFY) as services:
        found = get_run(services.engine, run)
        draw = draw_for(services, found, fraction)
        context = open_context(services, found)
        with (
            interruptible() as stop,
            open_progress(
                "computing again", draw.outcome.drawn, quiet=json
            ) as progress,
        ):
            outcome = compute(services, draw, context, stop=stop, on_items=progress.add)
    if json:
        print_json(_document(found.id, outcome))
    else:
        _tell(found.id, outcome)
    return _exit_code(outcome)


def tell_reviews(document: dict[str, Any]) -> None:
    """Say who signed the run's reports, and what was computed again."""
    for one in document.get("sign_offs") or ():
        which = "" if one["of_this_report"] else ", of an earlier report"
        say(
            f"Signed: {one['verdict']} by {one['signed_by']} at {one['at']}{which} "
            f"(the report said {one['report_verdict']})."
        )
    for one in document.get("reverifications") or ():
        say(
            f"Computed again: {one['items']:,} items by {one['made_by']} at "
            f"{one['at']}: {one['verdict']}."
        )


def _exit_code(outcome: "Outcome") -> ExitCode:
    from pipeline.reverification.outcome import Verdict  # noqa: PLC0415

    return {
        Verdict.AGREES: ExitCode.DONE,
        Verdict.DIFFERS: ExitCode.INTEGRITY,
        Verdict.INCOMPLETE: ExitCode.INFRASTRUCTURE,
        Verdict.STOPPED: ExitCode.INTERRUPTED,
    }[outcome.verdict]


def _document(run_id: str, outcome: "Outcome") -> dict[str, Any]:
    return {
        "run": run_id,
        "verdict": outcome.verdict.value,
        **outcome.facts(),
        "differences": [
            {
                "item_index": one.item_index,
                "item_id": one.item_id,
                "stored": one.stored,
                "computed": one.computed,
            }
            for one in outcome.differences
        ],
    }


def _tell(run_id: str, outcome: "Outcome") -> None:
    say(
        f"Of run {run_id}, {outcome.drawn:,} of {outcome.items_total:,} items in "
        f"{outcome.batches:,} batches were drawn at ledger size "
        f"{outcome.key.tree_size:,}: {outcome.verdict}."
    )
    say(f"  same          {outcome.same:,}")
    say(f"  differing     {outcome.differing:,}")
    for one in outcome.differences:
        say(
            f"    item {one.item_index}: stored {one.stored[:16]}, "
            f"now {one.computed[:16]}"
        )
    for reason, many in sorted(outcome.not_computed.items()):
        say(f"  not computed  {many:,} ({reason})")
    if outcome.rows_hold is False:
        say("  The rows do not give the result digest of the run.")
    if outcome.not_computed.total():
        note(
            f"affidavit: {outcome.not_computed.total():,} drawn items could not be "
            "computed again, as their inputs are gone or changed; put the inputs back "
            "as they were and do it again."
        )

# SPDX-License-Identifier: Apache-2.0
"""The command `affidavit`: its commands, and how errors become exit codes."""

import gc
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from affidavit.cli import (
    access,
    auditing,
    calibrating,
    collecting,
    comparing,
    duties,
    evidence,
    fleet,
    inspecting,
    installation,
    keeping,
    keys,
    listing,
    planning,
    proving,
    reading_log,
    registry,
    reporting,
    reviewing,
    scheduling,
    sizing,
    subjects,
    supervising,
    working,
)
from affidavit.cli.options import remember_home, remember_purpose
from affidavit.cli.output import complain, note, print_json, take_complaint
from affidavit.exit_codes import EXPECTED_ERRORS, ExitCode, exit_code_of, kind_of
from pipeline.access.policy import Purpose

#: Typer brings its own copy of click in newer versions; this is the right one's base.
_UsageProblem: type[typer.BadParameter] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    name="affidavit",
    help="Explain every prediction of a model over a dataset, measure how good each "
    "explanation is, and leave evidence that a stranger can check.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        from affidavit import __version__  # noqa: PLC0415

        typer.echo(f"affidavit {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    home: Annotated[
        Path | None,
        typer.Option("--home", help="As the commands' own --home."),
    ] = None,
    purpose: Annotated[
        Purpose | None,
        typer.Option("--purpose", help="Why data is looked at, as AFFIDAVIT_PURPOSE."),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    remember_home(home)
    remember_purpose(purpose)


for module in (
    planning,
    auditing,
    supervising,
    fleet,
    scheduling,
    listing,
    reporting,
    evidence,
    proving,
    reviewing,
    reading_log,
    collecting,
    calibrating,
    comparing,
    inspecting,
    sizing,
    working,
    access,
    subjects,
    keeping,
    duties,
    installation,
    keys,
    registry,
):
    module.register(app)


def main() -> None:
    """Run the command line and exit with a documented code."""
    # Start-up makes many objects and no garbage; collecting costs a tenth of it.
    gc.set_threshold(50_000, 20, 20)
    # Libraries may name inputs in what they log; commands tell errors themselves.
    logging.getLogger().addHandler(logging.NullHandler())
    code = run_command(sys.argv[1:])
    if "torch" not in sys.modules:
        # What is left goes with the process; looking through it would take a fifth
        # longer. Libraries that torch brings along complain of what was not collected.
        gc.freeze()
    sys.exit(code)


def _tell_usage(problem: typer.BadParameter) -> None:
    message = problem.format_message()
    if type(problem).__name__ == "NoArgsIsHelpError":
        note(message)
    else:
        complain(message.rstrip(".") + "; see 'affidavit --help'.", kind="usage")


def _sentence(error: Exception) -> str:
    """Return what an error says, a bare one of the system in words."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}; check the path and its \
permissions."
    return str(error)


def _tell(error: Exception) -> ExitCode:
    """Say what went wrong in one sentence; return the exit code of it."""
    if isinstance(error, EXPECTED_ERRORS):
        complain(_sentence(error), kind=kind_of(error))
        return exit_code_of(error)
    if isinstance(error, MemoryError):
        complain(
            "there is not enough memory; free some or take a smaller audit.",
            kind="memory",
        )
        return ExitCode.INFRASTRUCTURE
    from affidavit.cli.faults import tell_fault  # noqa: PLC0415

    tell_fault(error)
    return ExitCode.FAULT


def run_command(arguments: list[str]) -> int:
    """Return the exit code of a command line; errors are told in one sentence.

    With `--json` an error is a document on standard output as well.
    """
    take_complaint()
    code = _run(arguments)
    complaint = take_complaint()
    if complaint is not None and "--json" in arguments:
        print_json(
            {
                "error": {
                    "kind": complaint.kind,
                    "message": complaint.message,
                    "exit_code": code,
                }
            }
        )
    return code


def _run(arguments: list[str]) -> int:
    try:
        result = app(arguments, prog_name="affidavit", standalone_mode=False)
    except typer.Exit as exc:
        return exc.exit_code
    except _UsageProblem as exc:
        _tell_usage(exc)
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted.", kind="interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; that is its business.
        sys.stderr.close()
        return ExitCode.DONE
    except Exception as exc:  # noqa: BLE001 - the last line before a traceback
        return _tell(exc)
    if result == ExitCode.INTERRUPTED and not isinstance(result, ExitCode):
        # Typer has caught a Ctrl-C that the command itself did not answer.
        complain("interrupted.", kind="interrupted")
    return int(result) if isinstance(result, int) else ExitCode.DONE

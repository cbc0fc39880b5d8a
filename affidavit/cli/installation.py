# SPDX-License-Identifier: Apache-2.0
"""Commands about the installation: init, db upgrade, doctor."""

from pathlib import Path
from typing import Annotated

import typer

from affidavit.cli.options import (
    HomeOption,
    JsonOption,
    open_existing,
    open_services,
)
from affidavit.cli.output import print_json, say
from affidavit.exit_codes import ExitCode
from pipeline.access.policy import Right

_database = typer.Typer(
    help="Look after the database.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(init)
    app.command()(doctor)
    app.add_typer(_database, name="db")


def init(
    spec: Annotated[
        Path, typer.Argument(help="Where to write the example spec.", metavar="[SPEC]")
    ] = Path("audit.yaml"),
    *,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Write a commented example spec, and make the database and the signing key."""
    from pipeline.errors import SpecError  # noqa: PLC0415
    from pipeline.signing import open_signing_key, seal  # noqa: PLC0415
    from pipeline.spec_template import TEMPLATE  # noqa: PLC0415
    from storage.schema import ensure_embedded_schema  # noqa: PLC0415

    with open_services(home, Right.OPERATE) as services:
        if spec.exists():
            raise SpecError(
                f"{spec} exists already; name another file or move it away."
            )
        if not spec.absolute().parent.is_dir():
            raise SpecError(
                f"There is no folder {spec.absolute().parent}; make it first."
            )
        ensure_embedded_schema(
            services.settings.resolved_database_url, actor=services.actor
        )
        key = open_signing_key(services)
        seal(services)
        spec.write_text(TEMPLATE, encoding="utf-8")
        document = {
            "spec": str(spec.absolute()),
            "home": str(services.settings.home.absolute()),
            "signing_key": str(services.settings.resolved_signing_key.absolute()),
            "vkey": str(key.verifier),
        }
    if json:
        print_json(document)
        return
    say(f"Wrote {spec}; edit it, then try: affidavit plan {spec}")
    say(f"The ledger's public key, for whoever verifies: {key.verifier}")


@_database.command()
def upgrade(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Bring the database to this version's schema."""
    from pipeline.privacy.moving import move_identities  # noqa: PLC0415
    from pipeline.signing import seal  # noqa: PLC0415
    from storage.schema import upgrade as upgrade_schema  # noqa: PLC0415

    with open_services(home, Right.OPERATE) as services:
        before, after = upgrade_schema(
            services.settings.resolved_database_url, actor=services.actor
        )
        move_identities(services)
        seal(services)
    if json:
        print_json({"before": before, "after": after})
    elif before == after:
        say(f"The database is at migration {after} already.")
    else:
        say(f"The database is at migration {after} now (was: {before or 'empty'}).")


@_database.command()
def grants(
    *,
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Run the statements instead of printing them."),
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Print the SQL of the roles and their rights on PostgreSQL, or run it."""
    from storage.grants import PREFIX, ROLES, grant_statements  # noqa: PLC0415
    from storage.identities.grants import keys_statements  # noqa: PLC0415

    statements = grant_statements() + keys_statements()
    if apply:
        from pipeline.signing import seal  # noqa: PLC0415
        from storage.schema_roles import apply_roles  # noqa: PLC0415

        with open_existing(home, Right.OPERATE) as services:
            apply_roles(
                services.engine,
                keys_url=services.settings.resolved_keys_database_url,
                actor=services.actor,
            )
            seal(services)
    if json:
        roles = [PREFIX + role for role in ROLES]
        print_json({"roles": roles, "statements": statements, "applied": apply})
    elif apply:
        say("The roles have their rights; give each login one of them.")
    else:
        for statement in statements:
            say(f"{statement};")


def doctor(
    *,
    production: Annotated[
        bool,
        typer.Option("--production", help="Let warnings count as faults (exit 4)."),
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Check each part of the installation and say how to mend what is wrong."""
    from affidavit.doctor import examine  # noqa: PLC0415

    with open_services(home, Right.OPERATE, diagnosing=True) as services:
        findings = examine(services, production=production)
    healthy = all(finding.ok for finding in findings)
    if json:
        print_json(
            {"ok": healthy, "checks": [finding.to_json() for finding in findings]}
        )
    else:
        for finding in findings:
            word = "BAD" if not finding.ok else "warn" if finding.warning else "ok"
            say(f"{word:<4} {finding.part:<14} {finding.says}")
            if finding.mend:
                say(f"     {'':<14} {finding.mend}")
    return ExitCode.DONE if healthy else ExitCode.INFRASTRUCTURE

# SPDX-License-Identifier: Apache-2.0
"""Commands about the ledger's signing key: show, rotate."""

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import print_json, say
from pipeline.access.policy import Right

_keys = typer.Typer(
    help="Look after the ledger's signing key.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.add_typer(_keys, name="keys")


@_keys.command()
def show(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Print the public key, for whoever verifies."""
    from pipeline.local_key import local_verifier  # noqa: PLC0415

    with open_existing(home, Right.LOOK) as services:
        key = local_verifier(services.settings)
        path = services.settings.resolved_signing_key
    if key is None:
        from ledger.errors import KeyFileError  # noqa: PLC0415

        raise KeyFileError(
            f"There is no key at {path}; the process that signs has it, or "
            "'affidavit init' makes it."
        )
    if json:
        print_json({"vkey": str(key), "signing_key": str(path.absolute())})
    else:
        say(str(key))


@_keys.command()
def rotate(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """Make a new signing key, which the old one signs and which signs from now on."""
    from pipeline.rotation import rotate_key  # noqa: PLC0415

    with open_existing(home, Right.OPERATE) as services:
        if not services.settings.resolved_signing_key.exists():
            from ledger.errors import KeyFileError  # noqa: PLC0415

            raise KeyFileError(
                f"There is no key at {services.settings.resolved_signing_key}; rotate "
                "it where the process that signs has it."
            )
        old, new = rotate_key(services)
    if json:
        print_json({"old": str(old), "new": str(new)})
        return
    say(f"The ledger's new public key: {new}")
    say(f"Whoever holds the old one ({old}) can go on verifying with it.")

# SPDX-License-Identifier: Apache-2.0
"""Options that many commands share, and what they open."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.access.policy import Right
    from pipeline.services import Services

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]
HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder of the default database, objects and key [.affidavit].",
        show_default=False,
    ),
]
SpecArgument = Annotated[Path, typer.Argument(help="The spec file.", metavar="SPEC")]
RunArgument = Annotated[
    str,
    typer.Argument(
        help="The run's id, the first digits of it, or 'latest'.", metavar="RUN"
    ),
]

#: Given before the command: `affidavit --home DIR status`.
_global_home: list[Path] = []
#: Given before the command: `affidavit --purpose audit show ...`.
_purpose: list[str] = []


def remember_home(home: Path | None) -> None:
    """The home given before the command holds where a command gives none."""
    _global_home[:] = [home] if home is not None else []


def remember_purpose(purpose: str | None) -> None:
    """The purpose given before the command is that of the command."""
    _purpose[:] = [purpose] if purpose is not None else []


@contextmanager
def open_services(
    home: Path | None, right: "Right | None", *, diagnosing: bool = False
) -> Iterator["Services"]:
    """The installation's servers and stores, closed when the block ends.

    Args:
        home: As the command was given it.
        right: What whoever is at work must be allowed to; None where the command
            shows nothing of the installation.
        diagnosing: Whether to go on where the database does not even say who may.

    Raises:
        AccessRefusedError: the right is refused.
    """
    from pipeline.access.authentication import admitted  # noqa: PLC0415
    from pipeline.access.policy import Purpose  # noqa: PLC0415
    from pipeline.services import Services  # noqa: PLC0415
    from pipeline.settings import load_settings  # noqa: PLC0415
    from storage.errors import StorageError  # noqa: PLC0415
    from storage.events import local_user  # noqa: PLC0415

    chosen = home or (_global_home[0] if _global_home else None)
    settings = load_settings(home=chosen)
    if _purpose:
        settings = settings.model_copy(update={"purpose": Purpose(_purpose[0])})
    services = Services(settings=settings, actor=local_user())
    try:
        if right is not None:
            try:
                services = admitted(services, right)
            except StorageError:
                if not diagnosing:
                    raise
        yield services
    finally:
        services.close()


def log_events(services: "Services") -> None:
    """Events of this process are lines on standard error, as the settings say.

    Only commands that work with queues have any; the others need not wait for it.
    """
    from pipeline.logs import configure_logging  # noqa: PLC0415

    configure_logging(services.settings)


@contextmanager
def open_existing(home: Path | None, right: "Right") -> Iterator["Services"]:
    """As `open_services`, refusing a database without this version's tables."""
    from affidavit.run_facts import require_database  # noqa: PLC0415

    with open_services(home, right) as services:
        require_database(services)
        yield services

# SPDX-License-Identifier: Apache-2.0
"""Bringing the database to this version's schema, and refusing an older one."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, ProgrammingError

from ledger.entries import Action
from storage.engine import create_engine, transaction, translate_errors
from storage.errors import SchemaOutdatedError
from storage.events import record

#: The newest migration; a test holds it equal to the folder's.
HEAD = "0001"


def current_revision(engine: sa.Engine) -> str | None:
    """Return the database's migration, or None when it has no tables."""
    with translate_errors(), engine.connect() as connection:
        try:
            revision: str | None = connection.scalar(
                sa.text("SELECT version_num FROM alembic_version")
            )
        except (OperationalError, ProgrammingError) as exc:
            text = str(exc.orig)
            if "no such table" in text or "does not exist" in text:
                return None
            raise
    return revision


def require_current(engine: sa.Engine) -> None:
    """Nothing happens if the schema is this version's.

    Raises:
        SchemaOutdatedError: it is not; the message says which command mends it.
    """
    revision = current_revision(engine)
    if revision != HEAD:
        found = "no tables" if revision is None else f"migration {revision}"
        raise SchemaOutdatedError(
            f"The database has {found}, this program needs migration {HEAD}; "
            "run 'affidavit db upgrade'."
        )


def upgrade(url: str, *, actor: str) -> tuple[str | None, str]:
    """The database has this version's schema; return the revision before and after."""
    # Alembic is slow to import and only this command needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    engine = create_engine(url)
    before = current_revision(engine)
    if before == HEAD:
        return before, HEAD
    config = Config()
    folder = Path(__file__).resolve().parent.parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with translate_errors(), engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    with transaction(engine) as session:
        record(
            session,
            Action.DATABASE_UPGRADED,
            "database",
            actor=actor,
            details={"from": before, "to": HEAD},
        )
    engine.dispose()
    return before, HEAD


def ensure_embedded_schema(url: str, *, actor: str) -> None:
    """A SQLite database that is new has its tables; any other must be current.

    An embedded run should work at the first try, but nobody wants a server's schema
    changed by a run.

    Raises:
        SchemaOutdatedError: an existing database is not of this version.
    """
    engine = create_engine(url)
    try:
        if engine.dialect.name == "sqlite" and current_revision(engine) is None:
            upgrade(url, actor=actor)
        else:
            require_current(engine)
    finally:
        engine.dispose()

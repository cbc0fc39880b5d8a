# SPDX-License-Identifier: Apache-2.0
"""Bringing the database to this version's schema, and refusing an older one."""

from pathlib import Path

import sqlalchemy as sa

from ledger.entries import Action
from storage.engine import create_engine, transaction, translate_errors
from storage.errors import SchemaOutdatedError
from storage.events import record
from storage.installation import name_installation
from storage.locks import Lock, hold

#: The newest migration; a test holds it equal to the folder's.
HEAD = "0014"


def current_revision(engine: sa.Engine) -> str | None:
    """Return the database's migration, or None when it has no tables."""
    with translate_errors(engine), engine.connect() as connection:
        return _revision_of(connection)


def _revision_of(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(
        sa.text("SELECT version_num FROM alembic_version")
    )
    return revision


def require_current(engine: sa.Engine) -> None:
    """Nothing happens if the schema is this version's.

    Raises:
        SchemaOutdatedError: it is not; the message says which command mends it.
    """
    revision = current_revision(engine)
    if revision == HEAD:
        return
    if revision is None:
        found = "no tables"
    else:
        _refuse_newer(revision)
        found = f"migration {revision}"
    raise SchemaOutdatedError(
        f"The database has {found}, this program needs migration {HEAD}; "
        "run 'affidavit db upgrade'."
    )


def _refuse_newer(revision: str) -> None:
    if revision > HEAD:
        raise SchemaOutdatedError(
            f"The database has migration {revision}, this program knows up to {HEAD} "
            "only; install the version of affidavit that the database was upgraded by."
        )


def upgrade(url: str, *, actor: str) -> tuple[str | None, str]:
    """The database has this version's schema; return the revision before and after.

    Schema, ledger entry and revision are one transaction. Of two upgrades at once the
    second waits and finds nothing left to do.

    Raises:
        SchemaOutdatedError: the database is newer than this program.
    """
    engine = create_engine(url)
    try:
        before = current_revision(engine)
        if before != HEAD:
            if before is not None:
                _refuse_newer(before)
            before = _upgrade(engine, actor)
    finally:
        engine.dispose()
    return before, HEAD


def _upgrade(engine: sa.Engine, actor: str) -> str | None:
    # Alembic is slow to import and only this command needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    folder = Path(__file__).resolve().parent.parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with transaction(engine) as session:
        connection = session.connection()
        config.attributes["connection"] = connection
        hold(session, Lock.MIGRATION)
        before = _revision_of(connection)
        if before == HEAD:
            return before
        command.upgrade(config, "head")
        record(
            session,
            Action.DATABASE_UPGRADED,
            "database",
            actor=actor,
            details={"from": before, "to": HEAD},
        )
        name_installation(session)
    return before


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

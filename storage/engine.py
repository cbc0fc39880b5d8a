# SPDX-License-Identifier: Apache-2.0
"""Engines and transactions for PostgreSQL and SQLite, and the database's clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from storage.errors import DatabaseUnavailableError, SchemaOutdatedError, StorageError


class epoch_now(FunctionElement[float]):  # noqa: N801 - named like the SQL function it is
    """Seconds since 1970 on the database's clock, advancing inside a transaction."""

    type = sa.Double()
    inherit_cache = True


@compiles(epoch_now, "postgresql")
def _epoch_now_postgresql(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


@compiles(epoch_now, "sqlite")
def _epoch_now_sqlite(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def create_engine(url: str) -> sa.Engine:
    """Return an engine for a SQLite or PostgreSQL URL; nothing is connected yet.

    Raises:
        StorageError: the URL is malformed or names another kind of database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise StorageError(
            "The database URL is not valid; expected sqlite:///path/to/file.db or "
            "postgresql://user:password@host/name."
        ) from exc
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _sqlite_engine(parsed)
    if backend in {"postgresql", "postgres"}:
        return _postgresql_engine(parsed.set(drivername="postgresql+psycopg"))
    raise StorageError(
        f"The database kind '{backend}' is not supported; use sqlite or postgresql."
    )


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: BEGIN IMMEDIATE below takes
        # the write lock first, so two writers queue up instead of failing half-way.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=30000")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    try:
        return sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=5,
            connect_args={"connect_timeout": 10},
        )
    except NoSuchModuleError as exc:  # pragma: no cover - psycopg is a dependency
        raise StorageError("The psycopg driver is not installed.") from exc


@contextmanager
def translate_errors() -> Iterator[None]:
    """Vendor errors of the database come out as this package's errors."""
    try:
        yield
    except (OperationalError, InterfaceError) as exc:
        if "no such table" in str(exc.orig) or "no such column" in str(exc.orig):
            raise SchemaOutdatedError(
                "The database has no tables of this version; "
                "run 'affidavit db upgrade'."
            ) from exc
        raise DatabaseUnavailableError(_unavailable_sentence(exc)) from exc
    except ProgrammingError as exc:
        if "does not exist" in str(exc.orig):
            raise SchemaOutdatedError(
                "The database has no tables of this version; "
                "run 'affidavit db upgrade'."
            ) from exc
        raise


def _unavailable_sentence(exc: DBAPIError) -> str:
    """One sentence without the statement, its parameters or the password."""
    first_line = str(exc.orig).strip().splitlines()[0] if exc.orig else "no detail"
    return (
        f"The database does not answer ({first_line}); check AFFIDAVIT_DATABASE_URL "
        "and that the server is running."
    )


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[Session]:
    """A session that commits when the block ends and rolls back when it raises.

    Raises:
        DatabaseUnavailableError: the database does not answer.
        SchemaOutdatedError: the tables are missing.
    """
    with (
        translate_errors(),
        Session(engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def reading(engine: sa.Engine) -> Iterator[Session]:
    """A session for queries: no write lock is taken on SQLite, nothing is committed.

    Raises:
        DatabaseUnavailableError: the database does not answer.
        SchemaOutdatedError: the tables are missing.
    """
    options = {"sqlite_begin": "DEFERRED"}
    with (
        translate_errors(),
        Session(engine.execution_options(**options), expire_on_commit=False) as session,
    ):
        yield session

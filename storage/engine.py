# SPDX-License-Identifier: Apache-2.0
"""Engines and transactions for PostgreSQL and SQLite, and the database's clock."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from storage.errors import DatabaseUnavailableError, DatabaseUrlError
from storage.json_text import json_text
from storage.vendor_errors import translated

#: A connection whose server vanished without a word is given up after a minute, so
#: that neither a worker nor its heartbeat waits for ever.
_KEEPALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "application_name": "affidavit",
}


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


def _use_wal(cursor: Any) -> None:
    """The database keeps a write-ahead log; whoever makes it one excludes the others.

    SQLite does not wait for them as the busy timeout says: two connections that open a
    new file at once would see one of them fail.
    """
    for pause_s in (0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(pause_s)
        else:
            return
    cursor.execute("PRAGMA journal_mode=WAL")


def create_engine(url: str) -> sa.Engine:
    """Return an engine for a SQLite or PostgreSQL URL; nothing is connected yet.

    Raises:
        DatabaseUrlError: the URL is malformed or names another kind of database.
        DatabaseUnavailableError: the folder of a SQLite file cannot be made.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The cause would show the URL, and with it the password.
        raise DatabaseUrlError(
            "The database URL in AFFIDAVIT_DATABASE_URL is not valid; expected "
            "sqlite:///path/to/file.db or postgresql://user:password@host/name."
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _sqlite_engine(parsed.set(drivername="sqlite"))
    if backend in {"postgresql", "postgres"}:
        return _postgresql_engine(parsed.set(drivername="postgresql+psycopg"))
    raise DatabaseUrlError(
        f"The database kind '{backend}' of AFFIDAVIT_DATABASE_URL is not supported; "
        "use sqlite:///path/to/file.db or postgresql://user:password@host/name."
    )


def _options() -> dict[str, Any]:
    # Parameters are rows, and rows hold personal data: no exception may print them.
    # RFC 8259 knows no NaN; PostgreSQL refuses it and SQLite would store it.
    return {
        "hide_parameters": True,
        "json_serializer": json_text,
    }


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise DatabaseUrlError(
            "A SQLite database in memory would be another one for each connection; "
            "expected sqlite:///path/to/file.db."
        )
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DatabaseUnavailableError(
            f"The folder {Path(url.database).parent} of the database cannot be made "
            f"({exc.strerror}); check AFFIDAVIT_DATABASE_URL."
        ) from exc
    engine = sa.create_engine(url, connect_args={"timeout": 30}, **_options())

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: BEGIN IMMEDIATE below takes
        # the write lock first, so two writers queue up instead of failing half-way.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=30000")
        _use_wal(cursor)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    return sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=5,
        # The lease protocol counts on each statement seeing what was committed before
        # it, whatever the server's own default.
        isolation_level="READ COMMITTED",
        connect_args={k: v for k, v in _KEEPALIVE.items() if k not in url.query},
        **_options(),
    )


@contextmanager
def translate_errors(engine: sa.Engine) -> Iterator[None]:
    """Vendor errors of the database come out as this package's errors."""
    try:
        yield
    except DBAPIError as exc:
        is_file = engine.dialect.name == "sqlite"
        raise translated(
            exc, database=engine.url.database if is_file else None
        ) from None
    except PoolTimeoutError as exc:
        raise DatabaseUnavailableError(
            "All connections of this process to the database are in use; try again."
        ) from exc
    except StatementError as exc:
        # A value that cannot be written, such as NaN in JSON; psycopg raises it bare.
        raise (exc.orig or exc) from None


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[Session]:
    """A session that commits when the block ends and rolls back when it raises.

    Raises:
        DatabaseUnavailableError: the database does not answer.
        DatabaseDamagedError: the SQLite file is broken.
        SchemaOutdatedError: the tables are missing.
    """
    with (
        translate_errors(engine),
        Session(engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def reading(engine: sa.Engine) -> Iterator[Session]:
    """A session for queries: no write lock is taken on SQLite, nothing is committed.

    Raises:
        DatabaseUnavailableError: the database does not answer.
        DatabaseDamagedError: the SQLite file is broken.
        SchemaOutdatedError: the tables are missing.
    """
    options = {"sqlite_begin": "DEFERRED"}
    with (
        translate_errors(engine),
        Session(engine.execution_options(**options), expire_on_commit=False) as session,
    ):
        yield session

# SPDX-License-Identifier: Apache-2.0
"""Which of our errors an error of SQLite or PostgreSQL is.

By code and not by text where there is a code, because PostgreSQL speaks its server's
language. What a server says about a refused row may quote the row, and rows hold
personal data: only names of tables, constraints and error classes are passed on.
"""

import sqlite3
from typing import Any

import psycopg
from sqlalchemy.exc import StatementError

from storage.errors import (
    DatabaseUnavailableError,
    SchemaOutdatedError,
    StatementRefusedError,
    StorageError,
)

#: undefined_table and undefined_column.
_MISSING_CODES = frozenset({"42P01", "42703"})
_MISSING_TEXTS = ("no such table", "no such column", "has no column named")

#: SQLSTATE classes that pass by themselves or by an administrator's hand: connection,
#: rollback (deadlock), resources, lock not available, intervention, system, and a
#: standby that cannot be written to. An error without a code came from the client.
_PASSING = ("08", "40", "53", "55", "57", "58", "25006")


def names_missing_table(error: StatementError) -> bool:
    """Whether a table or column is not there."""
    cause = error.orig
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate in _MISSING_CODES
    return isinstance(cause, sqlite3.OperationalError) and any(
        text in str(cause) for text in _MISSING_TEXTS
    )


def translated(error: StatementError) -> StorageError:
    """Return this package's error for one that SQLAlchemy raised."""
    if names_missing_table(error):
        return SchemaOutdatedError(
            "The database has no tables of this version; run 'affidavit db upgrade'."
        )
    cause = error.orig
    if _is_passing(cause):
        return DatabaseUnavailableError(
            f"The database does not answer ({_first_line(cause)}); check "
            "AFFIDAVIT_DATABASE_URL and that the server is running."
        )
    return StatementRefusedError(
        f"The database refused a statement ({_description(cause)}); nothing of its "
        "transaction was written, please report this as a fault of affidavit."
    )


def _is_passing(cause: object) -> bool:
    if isinstance(cause, psycopg.Error):
        code = cause.sqlstate
        if code is None:
            return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        # 28: the server refuses the name or password; 3D: it has no such database.
        return code.startswith((*_PASSING, "28", "3D"))
    # What SQLite says of a refused row has classes of its own; the rest is about the
    # file: locked, full, read-only, unreadable, no database.
    return isinstance(cause, sqlite3.DatabaseError) and not isinstance(
        cause,
        sqlite3.IntegrityError
        | sqlite3.DataError
        | sqlite3.ProgrammingError
        | sqlite3.NotSupportedError
        | sqlite3.InternalError,
    )


def _first_line(cause: object) -> str:
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def _description(cause: Any) -> str:
    if isinstance(cause, psycopg.Error):
        diagnosis = cause.diag
        named = [
            diagnosis.table_name,
            diagnosis.column_name,
            diagnosis.constraint_name,
            cause.sqlstate,
        ]
        return " ".join([type(cause).__name__, *(part for part in named if part)])
    if isinstance(cause, sqlite3.IntegrityError):
        return str(cause)
    return type(cause).__name__

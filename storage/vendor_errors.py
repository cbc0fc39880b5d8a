# SPDX-License-Identifier: Apache-2.0
"""Which of our errors an error of SQLite or PostgreSQL is.

By code and not by text where there is a code, because PostgreSQL speaks its server's
language. What a server says about a refused row may quote the row, and rows hold
personal data: only names of tables, constraints and error classes are passed on.
"""

import sqlite3
import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from sqlalchemy.exc import StatementError

from storage.errors import (
    DatabaseDamagedError,
    DatabaseUnavailableError,
    SchemaOutdatedError,
    StatementRefusedError,
    StorageError,
)

if TYPE_CHECKING:
    import psycopg

#: undefined_table and undefined_column.
_MISSING_CODES = frozenset({"42P01", "42703"})
_MISSING_TEXTS = ("no such table", "no such column", "has no column named")

#: insufficient_privilege.
_NO_RIGHT = "42501"

#: SQLSTATE classes that pass by themselves or by an administrator's hand: connection,
#: rollback (deadlock), resources, lock not available, intervention, system, and a
#: standby that cannot be written to. An error without a code came from the client.
_PASSING = ("08", "40", "53", "55", "57", "58", "25006")

#: Primary codes of SQLite for a file whose pages or header are not what they must be.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: Texts of the driver's own that have no code.
_DAMAGED_TEXTS = ("Could not decode to UTF-8",)


def names_missing_table(error: StatementError) -> bool:
    """Whether a table or column is not there."""
    cause = error.orig
    if _is_postgresql(cause):
        return cause.sqlstate in _MISSING_CODES
    return isinstance(cause, sqlite3.OperationalError) and any(
        text in str(cause) for text in _MISSING_TEXTS
    )


def translated(error: StatementError, *, database: str | None = None) -> StorageError:
    """Return this package's error for one that SQLAlchemy raised.

    Args:
        error: What SQLAlchemy raised.
        database: The SQLite file, to be named; None where a server was asked.
    """
    cause = error.orig
    if _is_damage(cause):
        named = f"The database file {database}" if database else "The database file"
        return DatabaseDamagedError(
            f"{named} is damaged or is no SQLite database ({_first_line(cause)}); "
            "restore a backup of it. Evidence bundles verify without it."
        )
    if names_missing_table(error):
        return SchemaOutdatedError(
            "The database has no tables of this version; run 'affidavit db upgrade'."
        )
    if _is_postgresql(cause) and cause.sqlstate == _NO_RIGHT:
        return DatabaseUnavailableError(
            f"The database refuses this login a right that is needed here "
            f"({_description(cause)}); give it the role of what it does, see "
            "'affidavit db grants'. Identities are for the role affidavit_keys alone: "
            "set AFFIDAVIT_KEYS_DATABASE_URL to a login of that role."
        )
    if _is_passing(cause):
        return DatabaseUnavailableError(_unavailable(cause, database))
    return StatementRefusedError(
        f"The database refused a statement ({_description(cause)}); nothing of its "
        "transaction was written, please report this as a fault of affidavit."
    )


def _unavailable(cause: object, database: str | None) -> str:
    said = _first_line(cause)
    if database is not None:
        return (
            f"The database file {database} cannot be used ({said}); check its "
            "permissions, the free space, and whether another program holds it."
        )
    if "certificate verify failed" in said or "does not match host name" in said:
        return (
            "The certificate of the database server is not accepted; set sslrootcert "
            "in AFFIDAVIT_DATABASE_URL to the CA that signed it, and use the name "
            "that it was made for as the host."
        )
    return (
        f"The database does not answer ({said}); check AFFIDAVIT_DATABASE_URL and "
        "that the server is running."
    )


def _is_postgresql(cause: object) -> "TypeGuard[psycopg.Error]":
    # Its errors cannot have come up where it was not loaded, and loading it takes a
    # tenth of the time of a look at a SQLite file.
    driver = sys.modules.get("psycopg")
    return driver is not None and isinstance(cause, driver.Error)


def _is_damage(cause: object) -> bool:
    if not isinstance(cause, sqlite3.Error):
        return False
    code = getattr(cause, "sqlite_errorcode", 0)
    # The low byte is the primary code, whatever details the rest adds.
    return code & 0xFF in _DAMAGED or str(cause).startswith(_DAMAGED_TEXTS)


def _is_passing(cause: object) -> bool:
    if _is_postgresql(cause):
        code = cause.sqlstate
        if code is None:
            driver = sys.modules["psycopg"]
            return isinstance(cause, driver.OperationalError | driver.InterfaceError)
        # 28: the server refuses the name or password; 3D: it has no such database.
        return code.startswith((*_PASSING, "28", "3D"))
    # What SQLite says of a refused row has classes of its own; the rest is about the
    # file: locked, full, read-only, unreadable.
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
    if _is_postgresql(cause):
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

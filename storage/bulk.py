# SPDX-License-Identifier: Apache-2.0
"""Many rows into one table, by COPY on PostgreSQL and by one statement on SQLite."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.tables import Table


def insert_rows(
    session: Session, table: type[Table], rows: Sequence[dict[str, Any]]
) -> None:
    """All rows are in the table, inside the caller's transaction.

    Args:
        session: An open transaction.
        table: The row class.
        rows: One dict a row, all with the same keys.
    """
    if not rows:
        return
    connection = session.connection()
    if connection.dialect.name != "postgresql":
        session.execute(sa.insert(table.__table__), list(rows))  # type: ignore[arg-type]
        return
    _copy(connection, table, rows)


def _copy(
    connection: sa.Connection, table: type[Table], rows: Sequence[dict[str, Any]]
) -> None:
    columns = list(rows[0])
    json_columns = {
        column.name
        for column in table.__table__.columns
        if isinstance(column.type, sa.JSON)
    }
    # Names come from our own row classes, never from outside.
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f"COPY {table.__tablename__} ({names}) FROM STDIN"
    driver_connection: Any = connection.connection.driver_connection
    with driver_connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(
                [
                    json.dumps(row[name])
                    if name in json_columns and row[name] is not None
                    else row[name]
                    for name in columns
                ]
            )

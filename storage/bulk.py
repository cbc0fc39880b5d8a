# SPDX-License-Identifier: Apache-2.0
"""Many rows into one table, by COPY on PostgreSQL and by one statement on SQLite."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from storage.json_text import json_text
from storage.tables import Table


def insert_rows(
    session: Session, table: type[Table], rows: Sequence[dict[str, Any]]
) -> None:
    """All rows are in the table, inside the caller's transaction.

    Args:
        session: An open transaction.
        table: The row class.
        rows: One dict a row, all with the same keys.

    Raises:
        ValueError: a value is NaN, or a row has other keys than the first one.
    """
    if not rows:
        return
    _check(table, rows)
    connection = session.connection()
    if connection.dialect.name != "postgresql":
        session.execute(sa.insert(table.__table__), list(rows))  # type: ignore[arg-type]
        return
    _copy(connection, table, rows)


def _check(table: type[Table], rows: Sequence[dict[str, Any]]) -> None:
    columns = rows[0].keys()
    for row in rows:
        if row.keys() != columns:
            odd = ", ".join(sorted(row.keys() ^ columns))
            raise ValueError(
                f"Rows of {table.__tablename__} differ in their columns: {odd}."
            )
        for name, value in row.items():
            # PostgreSQL would store NaN and SQLite would make it NULL. It alone is
            # not equal to itself; asking so costs a third of asking by name.
            if isinstance(value, float) and value != value:  # noqa: PLR0124
                raise ValueError(
                    f"The column {name} of {table.__tablename__} would hold NaN; "
                    "expected a number or None."
                )


def _copy(
    connection: sa.Connection, table: type[Table], rows: Sequence[dict[str, Any]]
) -> None:
    import psycopg  # noqa: PLC0415 - nobody needs it beside PostgreSQL

    columns = list(rows[0])
    of_table = table.__table__.columns
    documents = [
        place
        for place, name in enumerate(columns)
        if isinstance(of_table[name].type, sa.JSON)
    ]
    # Names come from our own row classes, never from outside.
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f"COPY {table.__tablename__} ({names}) FROM STDIN"
    driver_connection: Any = connection.connection.driver_connection
    try:
        with driver_connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                values = [row[name] for name in columns]
                for place in documents:
                    if values[place] is not None:
                        values[place] = json_text(values[place])
                copy.write_row(values)
    except psycopg.Error as exc:
        # SQLAlchemy does not see what the driver is used for here.
        raise DBAPIError.instance(
            statement,
            None,
            exc,
            psycopg.Error,
            hide_parameters=True,
            dialect=connection.dialect,
        ) from exc

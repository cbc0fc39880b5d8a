# SPDX-License-Identifier: Apache-2.0
"""Deleted rows leave nothing behind in the database's own files.

SQLite keeps freed bytes and a log of changed pages; PostgreSQL keeps dead rows until
they are vacuumed. Backups and archived logs are out of reach: see docs/operations.md.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import translate_errors


def scrubbing(session: Session) -> None:
    """What this transaction's connection frees from now on is overwritten (SQLite)."""
    if session.get_bind().dialect.name == "sqlite":
        session.execute(sa.text("PRAGMA secure_delete=ON"))


def scrub(engine: sa.Engine, tables: Sequence[str] = ()) -> None:
    """Freed bytes are gone from the database's files, as far as it lets us.

    Args:
        engine: The database.
        tables: Which to vacuum on PostgreSQL; none of the caller's are open.
    """
    with translate_errors(engine), engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # On the driver's own: within a transaction it would do nothing.
            driver = connection.connection.driver_connection
            if driver is not None:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return
        outside = connection.execution_options(isolation_level="AUTOCOMMIT")
        for table in tables:
            # The names come from our own row classes.
            outside.exec_driver_sql(f"VACUUM {table}")

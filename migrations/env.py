# SPDX-License-Identifier: Apache-2.0
"""Alembic's entry: run the migrations on one connection, one transaction in all."""

import sqlalchemy as sa
from alembic import context

from pipeline.settings import load_settings
from storage.engine import create_engine
from storage.tables import Table

#: Any number will do, as long as every migrator of this product uses the same.
MIGRATION_LOCK = 7_031_845_001


def run(connection: sa.Connection) -> None:
    """The schema is at the requested revision, or unchanged."""
    if connection.dialect.name == "postgresql":
        # Two migrators wait for one another; neither waits for ever behind a query.
        connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
        )
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = create_engine(load_settings().resolved_database_url)
    with engine.begin() as own_connection:
        run(own_connection)

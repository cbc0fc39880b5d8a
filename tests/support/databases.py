# SPDX-License-Identifier: Apache-2.0
"""Empty databases with tables, without the price of a migration for each test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from storage.engine import create_engine, transaction
from storage.identities.tables import SCHEMA as KEYS_SCHEMA
from storage.identities.vault import IdentityVault
from storage.identities.wrapping import KeyFile
from storage.schema import HEAD, upgrade
from storage.tables import OutboxTable, Table

#: The tables whose rows the database keeps as they are.
GUARDED = ("ledger_entries", "checkpoints", "ledger_outbox")


def upgraded(url: str) -> str:
    """Return the URL of the database, which now has tables and an empty ledger."""
    upgrade(url, actor="user/tester")
    engine = create_engine(url)
    with transaction(engine) as session:
        session.execute(sa.delete(OutboxTable))
    engine.dispose()
    return url


@contextmanager
def sqlite_copy(template: Path, path: Path) -> Iterator[sa.Engine]:
    """Lend an engine on a copy of an upgraded SQLite file."""
    shutil.copyfile(template, path)
    engine = create_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def emptied(url: str) -> str:
    """Return the URL of the upgraded PostgreSQL database, whose tables are empty."""
    tables = ", ".join(Table.metadata.tables)
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in GUARDED:
            connection.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
        connection.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY"))
        connection.execute(sa.text(f"DROP SCHEMA IF EXISTS {KEYS_SCHEMA} CASCADE"))
        for table in GUARDED:
            connection.execute(
                sa.text(
                    f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only"
                )
            )
        connection.execute(
            sa.text("UPDATE alembic_version SET version_num = :head"), {"head": HEAD}
        )
    engine.dispose()
    return url


@contextmanager
def opened_vault(engine: sa.Engine, folder: Path) -> Iterator[IdentityVault]:
    """Lend the vault beside a database, its key file in that folder."""
    url = engine.url.render_as_string(hide_password=False)
    if engine.dialect.name == "sqlite":
        url = f"sqlite:///{folder / 'keys.db'}"
    vault = IdentityVault(
        url, lambda may: KeyFile(folder / "subjects.keys", may_create=may)
    )
    yield vault
    vault.close()

# SPDX-License-Identifier: Apache-2.0
"""Databases of this version, without the price of a migration for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.engine import create_engine
from storage.identities.vault import IdentityVault
from tests.support.databases import emptied, opened_vault, sqlite_copy, upgraded
from tests.support.servers import PostgresServer


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An upgraded SQLite file."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    upgraded(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The URL of an upgraded PostgreSQL database, which tests use in turn."""
    return upgraded(postgres_server.create_database())


@pytest.fixture
def sqlite_engine(sqlite_template: Path, tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine on a fresh SQLite database with tables."""
    with sqlite_copy(sqlite_template, tmp_path / "copy.db") as engine:
        yield engine


@pytest.fixture
def postgres_engine(
    postgres_server: PostgresServer, postgres_template: str
) -> Iterator[sa.Engine]:
    """An engine on a fresh PostgreSQL database with tables."""
    postgres_server.ensure_running()
    engine = create_engine(emptied(postgres_template))
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> sa.Engine:
    """An engine on a fresh database with tables, once for each kind."""
    found = request.getfixturevalue(f"{request.param}_engine")
    assert isinstance(found, sa.Engine)
    return found


@pytest.fixture
def vault(engine: sa.Engine, tmp_path: Path) -> Iterator[IdentityVault]:
    """The identities beside the database, once for each kind."""
    with opened_vault(engine, tmp_path) as found:
        yield found

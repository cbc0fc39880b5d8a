# SPDX-License-Identifier: Apache-2.0
"""Real servers, started once when first asked for, and fresh places on them.

A test that names `database_url` or `object_store` runs once for every backend.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.objects import ObjectStore, open_store
from tests.support.places import StorePlace
from tests.support.processes import dismiss_reaper
from tests.support.servers import (
    PostgresServer,
    RedisServer,
    S3Server,
    serve_moto,
    serve_postgres,
    serve_redis,
    serve_s3,
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes one has a whole file, and one has all faults.

    Tests of a file share what is dear to set up, and those of faults a deployment.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = "tests/faults/"
            return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)

    # The longest part is the first in order, and not the one with the most tests.
    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _no_process_left() -> Iterator[None]:
    """Ends, at the very last, whatever a fixture failed to end."""
    yield
    dismiss_reaper()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis server for all tests; `broker_url` empties it for each."""
    with serve_redis() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests; each takes its own database."""
    with serve_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for all tests; each takes its own bucket."""
    with serve_s3() as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """An S3 server that knows conditional writes."""
    with serve_moto() as server:
        yield server


@pytest.fixture
def broker_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    redis_server.ensure_running()
    redis_server.clear()
    return redis_server.url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database."""
    postgres_server.ensure_running()
    url = postgres_server.create_database()
    yield url
    postgres_server.ensure_running()
    postgres_server.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The SQLAlchemy URL of an SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'affidavit.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The SQLAlchemy URL of an empty database, once for each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def folder_place(tmp_path: Path) -> StorePlace:
    """A folder that is not there yet."""
    return StorePlace(url=str(tmp_path / "objects"), s3=None)


@pytest.fixture
def s3_place(s3_server: S3Server) -> StorePlace:
    """A prefix in an empty bucket."""
    s3_server.ensure_running()
    return StorePlace(
        url=f"s3://{s3_server.create_bucket()}/some/prefix", s3=s3_server.config
    )


@pytest.fixture(params=["folder", "s3"])
def object_store_place(request: pytest.FixtureRequest) -> StorePlace:
    """An empty object store, once for each kind."""
    place = request.getfixturevalue(f"{request.param}_place")
    assert isinstance(place, StorePlace)
    return place


@pytest.fixture
def object_store_url(object_store_place: StorePlace) -> str:
    """The URL of an empty object store, once for each kind."""
    return object_store_place.url


@pytest.fixture
def object_store(object_store_place: StorePlace) -> ObjectStore:
    """An empty object store, once for each kind."""
    return open_store(object_store_place.url, object_store_place.s3)

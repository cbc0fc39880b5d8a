# SPDX-License-Identifier: Apache-2.0
"""The servers under the tests behave as their fixtures say."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
import sqlalchemy

from storage.objects import ObjectStore
from tests.support.servers import PostgresServer, RedisServer

CHECKOUT = Path(__file__).parents[2]


def test_database_is_empty_and_ours(database_url: str) -> None:
    """Each test gets a database without tables, on every kind."""
    engine = sqlalchemy.create_engine(database_url)
    assert sqlalchemy.inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE mine (id INTEGER)"))
    assert sqlalchemy.inspect(engine).get_table_names() == ["mine"]
    engine.dispose()


def test_database_can_be_dropped_while_in_use(postgres_server: PostgresServer) -> None:
    """A test that leaks a connection does not block the end of the others."""
    url = postgres_server.create_database()
    engine = sqlalchemy.create_engine(url)
    connection = engine.connect()
    connection.execute(sqlalchemy.text("SELECT 1"))
    postgres_server.drop_database(url)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        connection.execute(sqlalchemy.text("SELECT 1"))
    connection.close()
    engine.dispose()


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_postgres_keeps_what_was_committed(
    postgres_server: PostgresServer, ending: str
) -> None:
    """A crash and an orderly end both keep the data; the address stays."""
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
    earlier = postgres_server.pid
    with psycopg.connect(postgres_server.url):  # an open session delays neither
        getattr(postgres_server, ending)()
        assert not psutil.pid_exists(earlier)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_server.url, connect_timeout=5)
    postgres_server.restart()
    assert postgres_server.pid != earlier
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.execute("SELECT id FROM kept").fetchone() == (1,)
        connection.execute("DROP TABLE kept")


def test_redis_keeps_what_it_acknowledged(
    redis_server: RedisServer, broker_url: str
) -> None:
    """The append-only file brings the queue back after a kill -9.

    With `everysec` a write is acknowledged up to two seconds before it is in the file,
    when the disk is slow with the one before.
    """
    with redis.Redis.from_url(broker_url) as client:
        client.set("kept", "1")
        deadline = time.monotonic() + 20
        while client.info("persistence")["aof_buffer_length"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    redis_server.kill()
    redis_server.restart()
    with redis.Redis.from_url(broker_url) as client:
        assert client.get("kept") == b"1"


def test_redis_wants_its_password(broker_url: str) -> None:
    """A client without the password is refused."""
    address = broker_url.rpartition("@")[2]
    with (
        redis.Redis.from_url(f"redis://{address}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_object_store_is_empty(object_store: ObjectStore) -> None:
    """Each test gets an empty store, on every kind."""
    assert list(object_store.keys("")) == []


def test_killed_test_run_leaves_no_server() -> None:
    """Even when pytest itself gets SIGKILL, its servers end within seconds."""
    code = (
        "import os, signal\n"
        "from tests.support.servers import serve_redis\n"
        "with serve_redis() as server:\n"
        "    print(server.pid, server.process.log.parent, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    pid, folder = done.stdout.split()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid))
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    Path(folder).rmdir()

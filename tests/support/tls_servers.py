# SPDX-License-Identifier: Apache-2.0
"""Redis, PostgreSQL and S3 that answer over TLS alone, with a given certificate."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from storage.objects import S3Config
from storage.objects.s3 import s3_client
from tests.support.certificates import Authority, Pair
from tests.support.postgres_binaries import find_postgres, initialise
from tests.support.processes import ManagedProcess, free_port, running
from tests.support.servers import PASSWORD, data_folder, find_rclone, find_redis


@dataclass(frozen=True, kw_only=True)
class S3Place:
    """A bucket on an S3 server behind TLS."""

    url: str
    config: S3Config


def require_redis_tls() -> None:
    """The test is skipped where this machine's Redis was built without TLS."""
    # It stops at the first line that it does not understand, and names it.
    done = subprocess.run(
        [find_redis(), "--tls-port", "0", "--port", "none"],
        capture_output=True,
        text=True,
        check=False,
    )
    if 'port "none"' not in done.stdout + done.stderr:
        pytest.skip("this redis-server was built without TLS (BUILD_TLS=yes)")


@contextmanager
def serve_redis_tls(
    authority: Authority, pair: Pair, *, wants_clients: bool = False
) -> Iterator[str]:
    """Lend the URL of a Redis with that certificate.

    Args:
        authority: Whose clients it accepts.
        pair: Its certificate.
        wants_clients: Whether clients must show a certificate.
    """
    port = free_port()
    with data_folder("redis-tls") as folder:
        settings = folder / "redis.conf"
        settings.write_text(
            f"bind 127.0.0.1\nport 0\ntls-port {port}\ndir {folder}\n"
            f"tls-cert-file {pair.certificate}\ntls-key-file {pair.key}\n"
            f"tls-ca-cert-file {authority.file}\n"
            f"tls-auth-clients {'yes' if wants_clients else 'no'}\n"
            f"requirepass {PASSWORD}\nappendonly yes\nsave ''\ndaemonize no\n"
        )
        process = ManagedProcess(
            argv=[find_redis(), str(settings)],
            log=folder / "log",
            is_ready=lambda: socket.create_connection(("127.0.0.1", port), 5).close(),
        )
        with running(process):
            yield f"rediss://:{PASSWORD}@127.0.0.1:{port}/0"


@contextmanager
def serve_postgres_tls(authority: Authority, pair: Pair) -> Iterator[str]:
    """Lend the SQLAlchemy URL of an empty database, without its TLS options."""
    port = free_port()
    url = f"postgresql://affidavit:{PASSWORD}@127.0.0.1:{port}/postgres"
    checked = f"{url}?sslmode=verify-full&sslrootcert={authority.file}"
    with data_folder("postgres-tls") as folder, find_postgres() as binaries:
        key, certificate = folder / "server.key", folder / "server.pem"
        shutil.copyfile(pair.key, key)
        shutil.copyfile(pair.certificate, certificate)
        key.chmod(0o600)
        if binaries.user is not None:
            shutil.chown(key, binaries.user, binaries.group)
        process = ManagedProcess(
            argv=[
                *(str(binaries.folder / "postgres"), "-D", str(folder / "data")),
                *("-p", str(port), "-c", "listen_addresses=127.0.0.1"),
                *("-c", "unix_socket_directories=", "-c", "fsync=off"),
                *("-c", "ssl=on", "-c", f"ssl_cert_file={certificate}"),
                *("-c", f"ssl_key_file={key}"),
            ],
            log=folder / "log",
            is_ready=lambda: psycopg.connect(checked, connect_timeout=5).close(),
            folder=folder,
            user=binaries.user,
            group=binaries.group,
            stop_signal=binaries.stop_signal,
        )
        initialise(binaries, folder, password=PASSWORD)
        _encrypt_only(folder / "data" / "pg_hba.conf")
        try:
            process.start()
        except RuntimeError as exc:
            if "SSL is not supported by this build" in str(exc):
                pytest.skip("this PostgreSQL was built without TLS")
            raise
        with running(process):
            yield url


def _encrypt_only(rules: Path) -> None:
    """Connections over the network are refused where they are not encrypted."""
    rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")


@contextmanager
def serve_s3_tls(authority: Authority, pair: Pair) -> Iterator[S3Place]:
    """Lend a bucket on an S3 server with that certificate."""
    port = free_port()
    config = S3Config(
        endpoint_url=f"https://127.0.0.1:{port}",
        access_key_id="test-key",
        secret_access_key=PASSWORD,
        ca=str(authority.file),
    )
    with data_folder("s3-tls") as folder:
        objects = folder / "objects"
        (objects / "audits").mkdir(parents=True)
        process = ManagedProcess(
            argv=[
                *(find_rclone(), "serve", "s3", "--config", ""),
                *("--addr", f"127.0.0.1:{port}"),
                *("--cert", str(pair.certificate), "--key", str(pair.key)),
                *("--auth-key", f"{config.access_key_id},{PASSWORD}"),
                str(objects),
            ],
            log=folder / "log",
            is_ready=lambda: _list_buckets(config, port),
        )
        with running(process):
            yield S3Place(url="s3://audits/some", config=config)


def _list_buckets(config: S3Config, port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    s3_client(config).list_buckets()

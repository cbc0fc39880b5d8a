# SPDX-License-Identifier: Apache-2.0
"""Redis, PostgreSQL and S3 over TLS: trusted by a CA file, refused without it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from pipeline.errors import InfrastructureError, SpecError
from pipeline.settings import Settings
from pipeline.store_probe import require_store
from storage.engine import create_engine, reading
from storage.errors import DatabaseUnavailableError
from storage.objects import open_store
from storage.objects.errors import StoreRefusedError
from storage.runs import list_shards
from tests.support.certificates import Authority
from tests.support.deployment import deployed
from tests.support.places import StorePlace
from tests.support.tls_servers import (
    S3Place,
    require_redis_tls,
    serve_postgres_tls,
    serve_redis_tls,
    serve_s3_tls,
)
from tests.support.workspace import Workspace
from workers.app import create_app
from workers.broker import broker_client, require_broker
from workers.broker_tls import broker_tls
from workers.hints import publisher


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA that signed the servers' certificates."""
    return Authority(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that signed nothing here."""
    return Authority(tmp_path_factory.mktemp("tls"), "stranger")


@pytest.fixture(scope="module")
def redis_url(authority: Authority) -> Iterator[str]:
    """A Redis behind TLS."""
    require_redis_tls()
    with serve_redis_tls(authority, authority.issue("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_tls_url(authority: Authority) -> Iterator[str]:
    """A database behind TLS; the URL lacks its options."""
    with serve_postgres_tls(authority, authority.issue("postgres")) as url:
        yield url


@pytest.fixture(scope="module")
def s3_tls(authority: Authority) -> Iterator[S3Place]:
    """A bucket behind TLS."""
    with serve_s3_tls(authority, authority.issue("s3")) as place:
        yield place


def settings_of(url: str, tmp_path: Path, **files: Path) -> Settings:
    """Return settings of a broker with those files."""
    return Settings(home=tmp_path, broker_url=SecretStr(url), **files)


def require(settings: Settings) -> None:
    """Ask the broker of the settings."""
    assert settings.broker_url is not None
    require_broker(settings.broker_url.get_secret_value(), broker_tls(settings))


def test_a_broker_with_our_ca_carries_hints(
    redis_url: str, authority: Authority, tmp_path: Path
) -> None:
    """Celery and our own client encrypt, and check the certificate against the CA."""
    settings = settings_of(redis_url, tmp_path, broker_ca=authority.file)
    require(settings)
    app = create_app(settings)
    publisher(app)(1, "cpu")
    app.close()
    with broker_client(settings) as client:
        assert client.llen("affidavit:cpu") == 1


@pytest.mark.parametrize("given", ["another CA", "no CA"])
def test_a_broker_of_another_ca_is_refused(
    redis_url: str, stranger: Authority, tmp_path: Path, given: str
) -> None:
    """One sentence names the setting, and shows no password."""
    files = {"broker_ca": stranger.file} if given == "another CA" else {}
    with pytest.raises(InfrastructureError) as caught:
        require(settings_of(redis_url, tmp_path, **files))
    assert "AFFIDAVIT_BROKER_CA" in str(caught.value)
    assert "certificate" in str(caught.value)
    assert "only-for-tests" not in str(caught.value)


def test_a_broker_may_ask_for_a_client_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    """With it all is well; without it the sentence names the setting."""
    require_redis_tls()
    pair = authority.issue("strict")
    client = authority.issue("worker")
    with serve_redis_tls(authority, pair, wants_clients=True) as url:
        require(
            settings_of(
                url,
                tmp_path,
                broker_ca=authority.file,
                broker_certificate=client.certificate,
                broker_key=client.key,
            )
        )
        with pytest.raises(InfrastructureError, match="AFFIDAVIT_BROKER_CERTIFICATE"):
            require(settings_of(url, tmp_path, broker_ca=authority.file))


def test_a_ca_without_tls_is_a_mistake(authority: Authority, tmp_path: Path) -> None:
    """Who sets a CA expects encryption, which redis:// has none of."""
    settings = settings_of("redis://h:1/0", tmp_path, broker_ca=authority.file)
    with pytest.raises(SpecError, match="rediss://"):
        create_app(settings)


def test_a_database_is_trusted_by_its_url(
    postgres_tls_url: str, authority: Authority, stranger: Authority
) -> None:
    """Sslmode and sslrootcert in the URL are passed on; a wrong CA is one sentence."""
    tail = "?sslmode=verify-full&sslrootcert="
    engine = create_engine(f"{postgres_tls_url}{tail}{authority.file}")
    with reading(engine) as session:
        encrypted = session.scalar(
            sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        )
    assert encrypted is True
    engine.dispose()
    engine = create_engine(f"{postgres_tls_url}{tail}{stranger.file}")
    with (
        pytest.raises(DatabaseUnavailableError) as caught,
        reading(engine) as session,
    ):
        session.scalar(sa.text("SELECT 1"))
    engine.dispose()
    assert "sslrootcert" in str(caught.value)
    assert "certificate of the database server" in str(caught.value)


def test_a_store_is_trusted_by_its_ca(s3_tls: S3Place, stranger: Authority) -> None:
    """AFFIDAVIT_S3_CA decides; a wrong one is one sentence that names it."""
    require_store(open_store(s3_tls.url, s3_tls.config))
    for wrong in (str(stranger.file), None):
        config = replace(s3_tls.config, ca=wrong, max_attempts=1)
        with pytest.raises(StoreRefusedError, match="AFFIDAVIT_S3_CA"):
            require_store(open_store(s3_tls.url, config))


def test_a_run_through_three_servers_behind_tls(
    redis_url: str,
    postgres_tls_url: str,
    s3_tls: S3Place,
    authority: Authority,
    tmp_path: Path,
) -> None:
    """Hint, rows and artifact of a submitted run go over TLS all the way."""
    folder = tmp_path / "d"
    Workspace(folder=folder).lay_out(2).write_spec(metrics=[])
    with deployed(
        folder,
        database_url=f"{postgres_tls_url}?sslmode=verify-full&sslrootcert={authority.file}",
        place=StorePlace(url=s3_tls.url, s3=s3_tls.config),
        broker_url=redis_url,
        AFFIDAVIT_BROKER_CA=str(authority.file),
        AFFIDAVIT_S3_CA=str(authority.file),
        AFFIDAVIT_BROKER_PREFIX="run:",
    ) as deployment:
        deployment.start_worker("cpu-1", "cpu")
        deployment.wait_for_workers("cpu-1")
        submitted = deployment.call("submit", "audit.yaml", "--json")
        assert submitted.code == 0, submitted.err
        engine = deployment.engine()
        run = submitted.document["run"]
        deployment.wait_until(
            lambda: [shard.state for shard in list_shards(engine, run)] == ["done"],
            "the worker does not finish the shard",
        )
        (shard,) = list_shards(engine, run)
        engine.dispose()
    store = open_store(s3_tls.url, s3_tls.config)
    assert shard.object_key is not None
    assert store.stat(shard.object_key).size_bytes == shard.size_bytes

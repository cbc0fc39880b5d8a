# SPDX-License-Identifier: Apache-2.0
"""`doctor --production` refuses what a laptop may do and a hospital may not."""

import pytest
from pydantic import SecretStr

from affidavit import production
from pipeline.services import Services
from pipeline.settings import Settings


def _services(**values: object) -> Services:
    secret = {"database_url", "broker_url", "s3_secret_access_key"}
    given = {k: SecretStr(str(v)) if k in secret else v for k, v in values.items()}
    return Services(settings=Settings(**given), actor="user/tester")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({}, 0),
        ({"broker_url": "redis://:x@127.0.0.1/0"}, 0),
        ({"broker_url": "redis://:x@redis.example/0"}, 1),
        ({"broker_url": "rediss://:x@redis.example/0"}, 0),
        ({"database_url": "postgresql://u:p@localhost/d"}, 0),
        ({"database_url": "postgresql://u:p@db.example/d"}, 1),
        ({"database_url": "postgresql://u:p@db.example/d?sslmode=require"}, 1),
        ({"database_url": "postgresql://u:p@db.example/d?sslmode=verify-full"}, 0),
        ({"s3_endpoint_url": "http://localhost:9000"}, 0),
        ({"s3_endpoint_url": "http://s3.example"}, 1),
        ({"s3_endpoint_url": "https://s3.example"}, 0),
        ({"anchor_s3_endpoint_url": "http://s3.example"}, 1),
    ],
)
def test_plain_text_beyond_this_machine_is_named(
    values: dict[str, object], count: int
) -> None:
    """Redis, PostgreSQL and S3 on other machines need TLS that is checked."""
    assert len(production.plain_text_problems(_services(**values))) == count


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({}, 0),
        ({"broker_url": "redis://redis.example/0"}, 1),
        ({"broker_url": "rediss://:changeme@redis.example/0"}, 1),
        ({"broker_url": "rediss://:vt7ohYoh0eiJ@redis.example/0"}, 0),
        ({"database_url": "postgresql://u:postgres@db.example/d"}, 1),
        ({"database_url": "postgresql://u:eiG9ohphai@db.example/d"}, 0),
        ({"database_url": "postgresql://u@db.example/d?sslcert=/c&sslkey=/k"}, 0),
        ({"s3_secret_access_key": "minioadmin"}, 1),
        ({"s3_secret_access_key": "Ohd5iejaiY6o"}, 0),
    ],
)
def test_default_secrets_are_named(values: dict[str, object], count: int) -> None:
    """No password, or one that everybody tries, is a problem for each server."""
    assert len(production.secret_problems(_services(**values))) == count


def test_workers_take_json_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own settings are fine; a pickle that somebody lets in is named."""
    services = _services(broker_url="redis://:x@127.0.0.1:1/0")
    assert production.serializer_problems(services) == []
    import workers.app

    genuine = workers.app.create_app

    def careless(settings: Settings) -> object:
        app = genuine(settings)
        app.conf.accept_content = ["json", "pickle"]
        app.conf.task_serializer = "pickle"
        return app

    monkeypatch.setattr(workers.app, "create_app", careless)
    problems = production.serializer_problems(services)
    assert len(problems) == 2
    assert all("pickle" in problem for problem in problems)


def test_a_missing_anchor_is_named() -> None:
    """Without an anchor `doctor --production` is not content."""
    (problem,) = production.anchor_problems(_services())
    assert "no anchor" in problem

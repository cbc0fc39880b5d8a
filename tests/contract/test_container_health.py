# SPDX-License-Identifier: Apache-2.0
"""The containers' health check tells a working part from a hung or missing one."""

import pytest
from pydantic import SecretStr

from deploy.health import broker_problem, main, worker_problem
from pipeline.settings import Settings
from storage.engine import create_engine
from storage.schema import upgrade
from storage.worker_registry import Announcement, announce, withdraw
from tests.support.processes import free_port


def _announced(name: str) -> Announcement:
    return Announcement(name=name, queue="cpu", device="cpu", version="0", roots=())


def test_only_a_live_worker_of_this_host_is_healthy(database_url: str) -> None:
    """A worker elsewhere, or one that has withdrawn, does not count."""
    settings = Settings(database_url=SecretStr(database_url))
    upgrade(database_url, actor="test")
    engine = create_engine(database_url)
    announce(engine, _announced("cpu-abc-other"))
    assert worker_problem(settings, "abc") is not None
    announce(engine, _announced("cpu-abc"))
    assert worker_problem(settings, "abc") is None
    withdraw(engine, "cpu-abc")
    assert worker_problem(settings, "abc") is not None
    engine.dispose()


def test_database_without_tables_is_named(database_url: str) -> None:
    """A database that was never migrated is a sentence and not a traceback."""
    settings = Settings(database_url=SecretStr(database_url))
    assert worker_problem(settings, "abc")


def test_beat_is_healthy_while_the_broker_answers(broker_url: str) -> None:
    """The right password is healthy; a wrong one, no server or no URL is not."""
    assert broker_problem(Settings(broker_url=SecretStr(broker_url))) is None
    wrong = broker_url.replace("redis://:", "redis://:wrong-")
    assert broker_problem(Settings(broker_url=SecretStr(wrong))) is not None
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    assert broker_problem(Settings(broker_url=SecretStr(nobody))) is not None
    assert broker_problem(Settings()) is not None


def test_setting_that_cannot_be_used_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A misspelt value is said, not raised."""
    monkeypatch.setenv("AFFIDAVIT_S3_PATH_STYLE", "perhaps")
    assert "AFFIDAVIT_S3_PATH_STYLE" in str(main("worker"))

# SPDX-License-Identifier: Apache-2.0
"""Worker processes: what keeps one from starting, and how one ends."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.errors import SpecError
from pipeline.settings import Settings
from storage.errors import SchemaOutdatedError
from storage.worker_registry import live_workers
from tests.support.deployment import deployed
from tests.support.places import StorePlace
from workers.processes import run_worker


def settings_of(broker_url: str, database_url: str, home: Path) -> Settings:
    """Return the settings of a worker."""
    return Settings(
        home=home,
        broker_url=SecretStr(broker_url),
        database_url=SecretStr(database_url),
    )


def test_a_worker_refuses_a_database_without_tables(
    broker_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    """It would fail at each hint; so it says at once which command mends it."""
    settings = settings_of(broker_url, sqlite_url, tmp_path)
    with pytest.raises(SchemaOutdatedError, match="db upgrade"):
        run_worker(settings, queue="cpu", name=None)


@pytest.mark.parametrize("name", ["a b", "ä", "-x", "a\n", "x" * 101, "../x"])
def test_a_name_that_the_ledger_cannot_hold_is_refused(
    broker_url: str, sqlite_url: str, tmp_path: Path, name: str
) -> None:
    """The name becomes part of entries, addresses and columns."""
    settings = settings_of(broker_url, sqlite_url, tmp_path)
    with pytest.raises(SpecError, match="name may have"):
        run_worker(settings, queue="cpu", name=name)


def test_a_worker_that_is_stopped_is_no_longer_alive(
    broker_url: str, sqlite_url: str, folder_place: StorePlace, tmp_path: Path
) -> None:
    """On SIGTERM it says good-bye to the registry, and all it says is JSON lines."""
    with deployed(
        tmp_path / "d",
        database_url=sqlite_url,
        place=folder_place,
        broker_url=broker_url,
    ) as deployment:
        worker = deployment.start_worker("control-1", "control")
        beat = deployment.start("beat", "beat")
        deployment.wait_for_workers("control-1")
        engine = deployment.engine()
        worker.stop()
        beat.stop()
        assert live_workers(engine) == [], deployment.logs()
        engine.dispose()
        lines = worker.log.read_text().splitlines()
        lines += beat.log.read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert all(isinstance(event, dict) and event["event"] for event in events)
    assert "worker_stopping" in {event["event"] for event in events}

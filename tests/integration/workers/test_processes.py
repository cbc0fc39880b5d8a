# SPDX-License-Identifier: Apache-2.0
"""Worker processes: what keeps one from starting, and how one ends."""

import json
import subprocess
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from pydantic import SecretStr

from pipeline.errors import SpecError
from pipeline.settings import Settings
from storage.errors import SchemaOutdatedError
from storage.worker_registry import live_workers
from tests.support.deployment import Deployment, deployed
from tests.support.places import StorePlace
from tests.support.processes import tell_reaper
from workers.processes import run_worker


def ticks_waiting(broker_url: str) -> int:
    """Return how many ticks nobody has taken yet."""
    with redis.Redis.from_url(broker_url) as client:
        return int(client.llen("affidavit:control"))


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


def test_a_worker_refuses_a_database_on_an_old_migration(
    broker_url: str, postgres_engine: sa.Engine, tmp_path: Path
) -> None:
    """On PostgreSQL too: one sentence with both migrations and the command."""
    with postgres_engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    url = postgres_engine.url.render_as_string(hide_password=False)
    settings = settings_of(broker_url, url, tmp_path)
    with pytest.raises(
        SchemaOutdatedError, match=r"migration 0001.*'affidavit db upgrade'"
    ):
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


def test_with_json_a_process_that_ends_says_so_in_one_document(
    broker_url: str, sqlite_url: str, folder_place: StorePlace, tmp_path: Path
) -> None:
    """Standard output of `worker` and `beat` holds that document and nothing else."""
    with deployed(
        tmp_path / "d",
        database_url=sqlite_url,
        place=folder_place,
        broker_url=broker_url,
        # As at a terminal, where Celery would show its banner.
        AFFIDAVIT_LOG_FORMAT="console",
    ) as deployment:
        # Nobody serves the control queue, so that the beat's ticks are seen there.
        commands = (("worker", "--queue", "cpu", "--name", "c-1"), ("beat",))
        started = {words[0]: _printing(deployment, *words) for words in commands}
        deployment.wait_for_workers("c-1")
        deployment.wait_until(
            lambda: ticks_waiting(broker_url) > 0, "the beat sends no tick"
        )
        ended = {}
        for name, process in started.items():
            process.terminate()
            process.wait(60)
            tell_reaper(-process.pid)
            ended[name] = json.loads((deployment.folder / f"{name}.out").read_text())
    assert ended["worker"] == {"worker": "c-1", "queue": "cpu", "exit_code": 0}
    assert ended["beat"] == {"exit_code": 0}


def _printing(deployment: Deployment, *words: str) -> subprocess.Popen[bytes]:
    """Return a process whose standard output is a file named like the command."""
    out, err = (deployment.folder / f"{words[0]}.{end}" for end in ("out", "err"))
    with out.open("wb") as stream, err.open("wb") as errors:
        process = subprocess.Popen(
            deployment.command(*words, "--json"),
            env=deployment.environment,
            cwd=deployment.folder,
            stdout=stream,
            stderr=errors,
        )
    tell_reaper(process.pid)
    return process

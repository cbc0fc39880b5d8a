# SPDX-License-Identifier: Apache-2.0
"""A database that is away, wrong, old or busy is told of in one clear sentence."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.engine import create_engine, epoch_now, reading, transaction
from storage.errors import (
    DatabaseDamagedError,
    DatabaseUnavailableError,
    SchemaOutdatedError,
    StatementRefusedError,
    StorageError,
)
from storage.leases import expire_leases
from storage.runs import list_runs
from storage.schema import current_revision
from storage.tables import WorkerTable
from storage.worker_registry import (
    Announcement,
    announce,
    forget_dead_workers,
    live_workers,
    withdraw,
)
from tests.support.planted import at_once, plant_run
from tests.support.processes import free_port
from tests.support.servers import PostgresServer


def sentence_of(action: Callable[[], object], kind: type[StorageError]) -> str:
    """Return the message of the error that the action must raise."""
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_is_down_is_one_sentence(host: str) -> None:
    """It says what to check and does not hold the password."""
    url = f"postgresql://anna:very-secret@{host}:{free_port()}/db"
    engine = create_engine(url)
    said = sentence_of(lambda: list_runs(engine), DatabaseUnavailableError)
    assert "AFFIDAVIT_DATABASE_URL" in said
    assert "refused" in said
    assert "very-secret" not in said
    engine.dispose()


def test_a_wrong_password_is_not_repeated(postgres_server: PostgresServer) -> None:
    """The server's refusal is passed on, the password that was tried is not."""
    postgres_server.ensure_running()
    url = sa.make_url(postgres_server.url).set(password="very-secret")
    engine = create_engine(url.render_as_string(hide_password=False))
    said = sentence_of(lambda: list_runs(engine), DatabaseUnavailableError)
    assert "password authentication failed" in said
    assert "very-secret" not in said
    engine.dispose()


def test_a_database_that_is_not_there_is_named(postgres_server: PostgresServer) -> None:
    """An unknown database is no missing table: an upgrade would not help."""
    postgres_server.ensure_running()
    url = sa.make_url(postgres_server.url).set(database="nowhere")
    engine = create_engine(url.render_as_string(hide_password=False))
    said = sentence_of(lambda: list_runs(engine), DatabaseUnavailableError)
    assert "nowhere" in said
    engine.dispose()


def test_missing_tables_name_the_command(database_url: str) -> None:
    """An empty database is outdated, not broken; looking makes nothing."""
    engine = create_engine(database_url)
    said = sentence_of(lambda: list_runs(engine), SchemaOutdatedError)
    assert "affidavit db upgrade" in said
    assert current_revision(engine) is None
    engine.dispose()


def test_a_missing_column_names_the_command(engine: sa.Engine) -> None:
    """Tables of another version are told apart from a broken statement."""
    with pytest.raises(SchemaOutdatedError), transaction(engine) as session:
        session.execute(sa.text("SELECT no_such_column_here FROM runs"))


def test_a_server_that_dies_and_returns_is_found_again(
    postgres_server: PostgresServer, postgres_engine: sa.Engine
) -> None:
    """After an outage the same engine works again without a restart of ours."""
    run_id = plant_run(postgres_engine)
    postgres_server.stop()
    try:
        sentence_of(lambda: list_runs(postgres_engine), DatabaseUnavailableError)
        sentence_of(
            lambda: expire_leases(postgres_engine, actor="worker/w"),
            DatabaseUnavailableError,
        )
    finally:
        postgres_server.restart()
    assert [found.id for found in list_runs(postgres_engine)] == [run_id]


def test_the_isolation_level_is_ours(postgres_url: str) -> None:
    """Whatever the server's default, statements see what was committed before them."""
    name = postgres_url.rpartition("/")[2]
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                f'ALTER DATABASE "{name}" SET default_transaction_isolation '
                "TO 'serializable'"
            )
        )
    engine.dispose()
    for session_maker in (transaction, reading):
        with session_maker(engine) as session:
            level = session.scalar(sa.text("SHOW transaction_isolation"))
        assert level == "read committed"
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:very-secret@host/db",
        "postgresql://user:very-secret@host:port/db",
        "postgresql//very-secret",
        "very-secret",
        "",
        "sqlite://",
        "sqlite:///:memory:",
        "oracle+cx_oracle://user:very-secret@host/db",
    ],
)
def test_an_unusable_url_is_refused_without_its_password(url: str) -> None:
    """The sentence names the kinds that work; the password is in no part of it."""
    with pytest.raises(StorageError, match="sqlite") as caught:
        create_engine(url)
    assert "very-secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "prefix", ["postgres://", "postgresql://", "postgresql+psycopg2://"]
)
def test_every_spelling_of_postgresql_uses_psycopg(prefix: str) -> None:
    """The driver is ours to choose, not the URL's."""
    engine = create_engine(f"{prefix}user@host/db")
    assert (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    """A SQLite path below a file is told of, not thrown as the system's error."""
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{tmp_path}/file/below/a.db"
    said = sentence_of(lambda: create_engine(url), DatabaseUnavailableError)
    assert "cannot be made" in said


def test_a_file_that_is_no_database_is_told_of(tmp_path: Path) -> None:
    """Other people's files are neither opened nor changed."""
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, not a database" * 50)
    engine = create_engine(f"sqlite:///{path}")
    said = sentence_of(lambda: list_runs(engine), DatabaseDamagedError)
    assert "not a database" in said
    assert str(path) in said
    assert path.read_text().startswith("these are my notes")
    engine.dispose()


def test_parameters_are_in_no_exception(engine: sa.Engine) -> None:
    """Neither our error nor the driver's text shows the values of a statement."""
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as raw:
        connection.execute(sa.text("SELECT :name FROM nowhere"), {"name": "anna"})
    assert "anna" not in str(raw.value)
    with pytest.raises(StatementRefusedError) as caught, transaction(engine) as session:
        session.execute(
            sa.text("INSERT INTO audits VALUES ('1', :n, :n, NULL, 1)"), {"n": "anna"}
        )
    assert "anna" not in str(caught.value)
    assert "affidavit" in str(caught.value)


def test_the_clocks_of_both_databases_are_seconds_since_1970(
    engine: sa.Engine,
) -> None:
    """Both tell this machine's time and go on inside a transaction."""
    with transaction(engine) as session:
        first = session.scalar(sa.select(epoch_now()))
        time.sleep(0.02)
        second = session.scalar(sa.select(epoch_now()))
    assert first is not None
    assert second is not None
    assert abs(time.time() - second) < 5
    assert 0.01 < second - first < 5


def test_many_writers_queue_up_on_sqlite(sqlite_engine: sa.Engine) -> None:
    """Threads that read and then write lose no update and meet no locked file."""
    with transaction(sqlite_engine) as session:
        session.execute(sa.text("CREATE TABLE counter (n INTEGER)"))
        session.execute(sa.text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(15):
            with transaction(sqlite_engine) as session:
                now = session.scalar(sa.text("SELECT n FROM counter"))
                session.execute(sa.text("UPDATE counter SET n = :n"), {"n": now + 1})

    at_once([count] * 4)
    with reading(sqlite_engine) as session:
        assert session.scalar(sa.text("SELECT n FROM counter")) == 60


def test_readers_do_not_wait_for_a_writer_on_sqlite(sqlite_engine: sa.Engine) -> None:
    """A long transaction, as planning is, leaves `status` and `report` working."""
    run_id = plant_run(sqlite_engine)
    with transaction(sqlite_engine) as session:
        session.execute(sa.text("UPDATE runs SET state = 'running'"))
        (seen,) = list_runs(sqlite_engine)
        assert (seen.id, seen.state) == (run_id, "queued")


def test_new_sqlite_files_are_opened_by_many_at_once(tmp_path: Path) -> None:
    """The switch to write-ahead logging does not fail whoever comes second."""
    url = f"sqlite:///{tmp_path / 'new.db'}"

    def open_it() -> str | None:
        engine = create_engine(url)
        revision = current_revision(engine)
        engine.dispose()
        return revision

    assert at_once([open_it] * 6) == [None] * 6


def test_a_locked_sqlite_file_is_told_of(sqlite_engine: sa.Engine) -> None:
    """Whoever waits too long for another writer gets a sentence."""
    path = str(sqlite_engine.url.database)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with sqlite_engine.connect() as connection:
        connection.execution_options(sqlite_begin="DEFERRED")
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
        connection.rollback()
    said = sentence_of(
        lambda: expire_then_write(sqlite_engine), DatabaseUnavailableError
    )
    assert "locked" in said
    holder.rollback()
    holder.close()


def expire_then_write(engine: sa.Engine) -> None:
    """Write something, on the pooled connection whose patience was shortened."""
    forget_dead_workers(engine)


def test_workers_come_and_go(engine: sa.Engine) -> None:
    """A worker is live from its announcement to its withdrawal or its silence."""

    def worker(name: str, device: str = "cpu") -> Announcement:
        return Announcement(
            name=name, queue="cpu", device=device, version="1", roots=("/data",)
        )

    at_once([lambda: announce(engine, worker("w1"))] * 4)
    announce(engine, worker("w2"))
    announce(engine, worker("w2", "cuda"))
    announce(engine, worker("silent"))
    with transaction(engine) as session:
        session.execute(
            sa.update(WorkerTable)
            .where(WorkerTable.name == "silent")
            .values(seen_at=epoch_now() - 100)
        )
    found = [(row.name, row.device, row.roots) for row in live_workers(engine)]
    assert found == [("w1", "cpu", ["/data"]), ("w2", "cuda", ["/data"])]
    withdraw(engine, "w2")
    forget_dead_workers(engine)
    with transaction(engine) as session:
        session.execute(
            sa.update(WorkerTable)
            .where(WorkerTable.name == "silent")
            .values(seen_at=epoch_now() - 4000)
        )
    forget_dead_workers(engine)
    with reading(engine) as session:
        assert session.scalars(sa.select(WorkerTable.name)).all() == ["w1"]

# SPDX-License-Identifier: Apache-2.0
"""The schema: one line of migrations, the same tables on both databases, guarded."""

import ast
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

import migrations
import storage.schema
from ledger.entries import Action, Entry
from storage.engine import create_engine, transaction
from storage.errors import SchemaOutdatedError
from storage.schema import (
    HEAD,
    current_revision,
    ensure_embedded_schema,
    require_current,
    upgrade,
)
from storage.tables import CheckpointTable, EntryTable, OutboxTable, Table
from tests.support.planted import at_once, entries, plant_run, shard_ids

FOLDER = Path(str(migrations.__file__)).parent
ACTOR = "user/tester"


def configured(connection: sa.Connection | None = None) -> Config:
    """Return Alembic's settings for the migrations of the product."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def test_there_is_one_head_and_it_is_the_programs() -> None:
    """Migrations are one line, numbered from 0001, ending at `storage.schema.HEAD`."""
    script = ScriptDirectory.from_config(configured())
    assert script.get_heads() == [HEAD]
    revisions = [step.revision for step in reversed(list(script.walk_revisions()))]
    assert revisions == [f"{number + 1:04d}" for number in range(len(revisions))]
    files = sorted(path.name for path in (FOLDER / "versions").glob("*.py"))
    assert [name.partition("_")[0] for name in files] == revisions


def test_migrations_import_nothing_of_the_application() -> None:
    """A version file imports SQLAlchemy, Alembic and the standard library alone."""
    ours = {"affidavit", "workers", "pipeline", "storage", "ledger", "explain"}
    for path in (FOLDER / "versions").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, path.name
                names = [str(node.module)]
            else:
                continue
            assert not {name.partition(".")[0] for name in names} & ours, path.name


def test_an_empty_database_gets_exactly_the_tables_of_the_program(
    database_url: str,
) -> None:
    """After the upgrade Alembic finds no difference to the row classes."""
    assert upgrade(database_url, actor=ACTOR) == (None, HEAD)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Table.metadata) == []
    require_current(engine)
    engine.dispose()


def test_a_second_upgrade_changes_nothing(database_url: str) -> None:
    """Upgrading a current database leaves it, and the ledger, as they were."""
    upgrade(database_url, actor=ACTOR)
    assert upgrade(database_url, actor=ACTOR) == (HEAD, HEAD)
    engine = create_engine(database_url)
    assert len(entries(engine)) == 1
    engine.dispose()


def test_two_upgrades_at_once_are_one(database_url: str) -> None:
    """Both end well, one of them has done it, and the ledger has one entry."""
    done = at_once([lambda: upgrade(database_url, actor=ACTOR)] * 2)
    assert sorted(done, key=str) == [(HEAD, HEAD), (None, HEAD)]
    engine = create_engine(database_url)
    told = entries(engine)
    assert [entry.action for entry in told] == [Action.DATABASE_UPGRADED]
    assert told[0].details == {"from": None, "to": HEAD}
    engine.dispose()


def test_an_upgrade_that_breaks_leaves_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables, revision and ledger entry are one transaction."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("the entry cannot be written")

    with monkeypatch.context() as patch:
        patch.setattr(storage.schema, "record", refuse)
        with pytest.raises(RuntimeError, match="cannot be written"):
            upgrade(database_url, actor=ACTOR)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    engine.dispose()
    assert upgrade(database_url, actor=ACTOR) == (None, HEAD)


@pytest.mark.parametrize("table", [EntryTable, CheckpointTable])
def test_the_ledger_is_append_only(
    engine: sa.Engine, table: type[EntryTable] | type[CheckpointTable]
) -> None:
    """The database refuses UPDATE, DELETE and TRUNCATE, also for one row or none."""
    rows = {
        EntryTable: {"idx": 0, "leaf_hash": b"h", "body": b"b"},
        CheckpointTable: {"tree_size": 1, "root": b"r", "note": "n", "at": 1.0},
    }[table]
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(**rows))
    key = next(iter(table.__table__.primary_key))
    attacks: list[sa.Executable] = [
        sa.update(table).values({key.name: 5}),
        sa.delete(table),
        sa.delete(table).where(key == rows[key.name]),
    ]
    if engine.dialect.name == "postgresql":
        attacks.append(sa.text(f"TRUNCATE {table.__tablename__}"))
        attacks.append(sa.text(f"TRUNCATE {table.__tablename__} CASCADE"))
    for attack in attacks:
        with (
            pytest.raises(DBAPIError, match="append-only"),
            engine.begin() as connection,
        ):
            connection.execute(attack)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 1


_NEW_ROWS: dict[type[Table], dict[str, Any]] = {
    EntryTable: {"idx": 0, "leaf_hash": b"h", "body": b"b"},
    CheckpointTable: {"tree_size": 1, "root": b"r", "note": "n", "at": 1.0},
    OutboxTable: {"id": 1, "at": 1.0, "body": b"b"},
}


@pytest.mark.parametrize("table", list(_NEW_ROWS), ids=lambda t: t.__tablename__)
@pytest.mark.parametrize("aim", ["key", "rowid"])
def test_sqlite_replaces_no_row_of_the_ledger(
    sqlite_engine: sa.Engine, table: type[Table], aim: str
) -> None:
    """INSERT OR REPLACE, aimed at the key or at the rowid, is refused."""
    rows = _NEW_ROWS[table]
    key = next(iter(rows))
    with sqlite_engine.begin() as connection:
        connection.execute(sa.insert(table).values(**rows))
    other = rows if aim == "key" else rows | {key: 77}
    columns = {name: repr(0) for name in other} | {key: repr(other[key])}
    if aim == "rowid" and table is not OutboxTable:
        columns["rowid"] = "1"
    elif aim == "rowid":
        columns[key] = repr(rows[key])
    statement = (
        # The names come from the row classes.
        f"INSERT OR REPLACE INTO {table.__tablename__} "  # noqa: S608
        f"({', '.join(columns)}) "
        f"VALUES ({', '.join(columns.values())})"
    )
    with (
        pytest.raises(DBAPIError, match="append-only"),
        sqlite_engine.begin() as connection,
    ):
        connection.execute(sa.text(statement))
    with sqlite_engine.begin() as connection:
        # Rows that are new go in as ever.
        connection.execute(sa.insert(table).values(**rows | {key: 78}))
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 2


def test_a_waiting_entry_can_be_ordered_and_not_rewritten(engine: sa.Engine) -> None:
    """The outbox refuses UPDATE (and TRUNCATE); DELETE is what the sequencer does."""
    with engine.begin() as connection:
        connection.execute(sa.insert(OutboxTable).values(at=1.0, body=b"b"))
    attacks: list[sa.Executable] = [sa.update(OutboxTable).values(body=b"x")]
    if engine.dialect.name == "postgresql":
        attacks.append(sa.text("TRUNCATE ledger_outbox"))
    for attack in attacks:
        with (
            pytest.raises(DBAPIError, match="append-only"),
            engine.begin() as connection,
        ):
            connection.execute(attack)
    with engine.begin() as connection:
        connection.execute(sa.delete(OutboxTable))


def test_replication_does_not_pass_the_guard(postgres_engine: sa.Engine) -> None:
    """A session that claims to be a replica may not change history either."""
    with postgres_engine.begin() as connection:
        connection.execute(
            sa.insert(EntryTable).values(idx=0, leaf_hash=b"h", body=b"b")
        )
    with postgres_engine.connect() as connection:
        connection.execute(sa.text("SET session_replication_role = replica"))
        with pytest.raises(DBAPIError, match="append-only"):
            connection.execute(sa.delete(EntryTable))


def test_going_back_is_refused_with_the_reason(database_url: str) -> None:
    """A downgrade says that it would destroy the ledger, and destroys nothing."""
    upgrade(database_url, actor=ACTOR)
    engine = create_engine(database_url)
    with (
        pytest.raises(RuntimeError, match="would destroy the ledger"),
        engine.begin() as connection,
    ):
        command.downgrade(configured(connection), "base")
    assert current_revision(engine) == HEAD
    assert len(entries(engine)) == 1
    engine.dispose()


def test_later_steps_can_be_taken_back_and_done_again(database_url: str) -> None:
    """Back to the first schema and up again, run, rows and ledger are still there."""
    upgrade(database_url, actor=ACTOR)
    engine = create_engine(database_url)
    run_id = plant_run(engine)
    before = entries(engine)
    with engine.begin() as connection:
        command.downgrade(configured(connection), "0001")
    assert current_revision(engine) == "0001"
    assert upgrade(database_url, actor=ACTOR) == ("0001", HEAD)
    require_current(engine)
    assert entries(engine)[: len(before)] == before
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Table.metadata) == []
    assert len(shard_ids(engine, run_id)) == 2
    engine.dispose()


def test_an_older_database_is_refused_with_the_command(engine: sa.Engine) -> None:
    """Who meets one hears both migrations and what to type."""
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0003'"))
    says = f"migration 0003, this program needs migration {HEAD}; run 'affidavit db"
    for attempt in (
        lambda: require_current(engine),
        lambda: ensure_embedded_schema(
            engine.url.render_as_string(hide_password=False), actor=ACTOR
        ),
    ):
        with pytest.raises(SchemaOutdatedError, match=says):
            attempt()


def test_a_newer_database_is_refused_by_name(engine: sa.Engine) -> None:
    """A program that is too old says so; it does not offer an upgrade."""
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9001'"))
    for attempt in (
        lambda: require_current(engine),
        lambda: upgrade(engine.url.render_as_string(hide_password=False), actor=ACTOR),
    ):
        with pytest.raises(SchemaOutdatedError, match="9001") as caught:
            attempt()
        assert "install" in str(caught.value)
        assert "db upgrade" not in str(caught.value)


def test_a_run_makes_tables_in_a_new_sqlite_file_only(
    sqlite_url: str, postgres_url: str
) -> None:
    """An embedded run may begin at once; a server's schema is never changed by it."""
    ensure_embedded_schema(sqlite_url, actor=ACTOR)
    ensure_embedded_schema(sqlite_url, actor=ACTOR)
    engine = create_engine(sqlite_url)
    require_current(engine)
    engine.dispose()
    with pytest.raises(SchemaOutdatedError, match=r"no tables.*db upgrade"):
        ensure_embedded_schema(postgres_url, actor=ACTOR)


def test_a_json_column_without_a_value_is_null(engine: sa.Engine) -> None:
    """No JSON text `null` stands where other columns would hold NULL."""
    plant_run(engine)
    with engine.connect() as connection:
        summaries = sa.text("SELECT count(*) FROM runs WHERE summary IS NULL")
        groups = sa.text("SELECT count(*) FROM locations WHERE groups IS NULL")
        assert connection.scalar(summaries) == 1
        assert connection.scalar(groups) == 4


def test_the_upgrade_is_the_first_entry_of_the_ledger(database_url: str) -> None:
    """Who upgraded from what to what is in the outbox, and it parses."""
    upgrade(database_url, actor=ACTOR)
    engine = create_engine(database_url)
    with transaction(engine) as session:
        entry = Entry.parse(session.scalars(sa.select(OutboxTable.body)).one())
    assert (entry.actor, entry.action) == (ACTOR, Action.DATABASE_UPGRADED)
    engine.dispose()

# SPDX-License-Identifier: Apache-2.0
"""Each role of the database may do its work and nothing else, seen by connecting."""

import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from ledger.entries import Action
from storage.engine import create_engine, transaction
from storage.errors import DatabaseUnavailableError
from storage.events import record
from storage.grants import PREFIX, ROLES, rights_of
from storage.identities.tables import SCHEMA, KeysTable
from storage.identities.vault import SUBJECT, IdentityVault
from storage.identities.wrapping import KeyFile
from storage.ledger_writer import sequence
from storage.schema_roles import apply_roles
from storage.tables import Table
from tests.support.databases import upgraded
from tests.support.servers import PostgresServer

GUARDED = ("ledger_entries", "checkpoints")


@pytest.fixture(scope="module")
def logins(postgres_server: PostgresServer) -> Iterator[dict[str, sa.Engine]]:
    """An engine for each role, and one for the owner, on one upgraded database."""
    postgres_server.ensure_running()
    postgres_url = postgres_server.create_database()
    owner = create_engine(upgraded(postgres_url))
    for _ in range(2):  # again is fine
        apply_roles(owner, keys_url=postgres_url, actor="user/tester")
    sequence(owner)
    engines = {"owner": owner}
    names = []
    for role in ROLES:
        name, password = f"t_{secrets.token_hex(6)}", secrets.token_hex(12)
        names.append(name)
        with owner.begin() as connection:
            connection.execute(
                sa.text(
                    f"CREATE ROLE {name} LOGIN PASSWORD '{password}' "
                    f"IN ROLE {PREFIX}{role}"
                )
            )
        url = owner.url.set(username=name, password=password)
        engines[role] = create_engine(url.render_as_string(hide_password=False))
    yield engines
    for engine in engines.values():
        engine.dispose()
    again = create_engine(postgres_url)
    with again.begin() as connection:
        for name in names:
            connection.execute(sa.text(f"DROP ROLE {name}"))
        # The tables go with the database; the roles are the server's.
        connection.execute(sa.text("REASSIGN OWNED BY affidavit_migrator TO affidavit"))
        for role in ROLES:
            connection.execute(sa.text(f"DROP OWNED BY {PREFIX}{role}"))
    again.dispose()
    postgres_server.drop_database(postgres_url)


def _may(engine: sa.Engine, statement: str) -> bool:
    with engine.connect() as connection:
        try:
            connection.execute(sa.text(statement))
        except ProgrammingError as exc:
            if getattr(exc.orig, "sqlstate", "") != "42501":
                raise
            return False
        finally:
            connection.rollback()
    return True


def _statement(verb: str, table: str) -> str:
    column = next(iter(Table.metadata.tables[table].columns)).name
    return {
        "SELECT": f"SELECT 1 FROM {table} LIMIT 1",  # noqa: S608
        "INSERT": f"INSERT INTO {table} SELECT * FROM {table} WHERE false",  # noqa: S608
        "UPDATE": f"UPDATE {table} SET {column} = {column} WHERE false",  # noqa: S608
        "DELETE": f"DELETE FROM {table} WHERE false",  # noqa: S608
        "TRUNCATE": f"TRUNCATE {table} CASCADE",
    }[verb]


def test_each_role_may_what_is_granted_and_nothing_else(
    logins: dict[str, sa.Engine],
) -> None:
    """Every verb on every table as every role: allowed exactly where granted."""
    wrong = []
    for role in ROLES:
        if role == "migrator":
            continue
        rights = rights_of(role)
        for table in Table.metadata.tables:
            granted = rights.get(table, "").split(", ")
            for verb in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
                statement = _statement(verb, table)
                allowed = verb in granted
                if _may(logins[role], statement) != allowed:
                    wrong.append((role, verb, table))
    assert wrong == []


def test_roles_do_their_work(logins: dict[str, sa.Engine]) -> None:
    """All may record, the sequencer alone orders, and the auditor reads the result."""
    for role in ("app", "sequencer", "auditor", "keys"):
        with transaction(logins[role]) as session:
            record(session, Action.LEDGER_READ, "ledger", actor=f"user/{role}")
    assert sequence(logins["sequencer"]) == 4
    with logins["auditor"].connect() as connection:
        count = connection.scalar(sa.text("SELECT count(*) FROM ledger_entries"))
    assert count is not None
    assert count >= 4


@pytest.mark.parametrize("table", GUARDED)
@pytest.mark.parametrize("verb", ["UPDATE", "DELETE", "TRUNCATE"])
def test_even_the_owner_meets_the_trigger(
    logins: dict[str, sa.Engine], table: str, verb: str
) -> None:
    """The migrator owns the tables and still changes no entry without dropping it."""
    for role in ("migrator", "owner"):
        assert not _may(logins[role], _statement(verb, table)), role


def test_nobody_but_the_owner_sees_or_makes_anything_new(
    logins: dict[str, sa.Engine],
) -> None:
    """Roles make no tables, disable no triggers and become no other role."""
    for role in ("app", "sequencer", "auditor", "keys"):
        for statement in (
            "CREATE TABLE public.mine (id int)",
            "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
            "SET session_replication_role = replica",
            f"SET ROLE {PREFIX}migrator",
        ):
            assert not _may(logins[role], statement), (role, statement)
    assert _may(logins["migrator"], "CREATE TABLE public.mine (id int)")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the one installation's keys, made at its first use."""
    return tmp_path_factory.mktemp("keys") / "subjects.keys"


@contextmanager
def _vault(login: sa.Engine, keys: Path) -> Iterator[IdentityVault]:
    url = login.url.render_as_string(hide_password=False)
    vault = IdentityVault(url, lambda may_create: KeyFile(keys, may_create=may_create))
    try:
        yield vault
    finally:
        vault.close()


def test_the_role_of_the_keys_does_all_that_identities_need(
    logins: dict[str, sa.Engine], keys: Path
) -> None:
    """It gives tokens, reads them, wraps keys anew and forgets."""
    with _vault(logins["keys"], keys) as vault:
        tokens = vault.tokens_for(SUBJECT, ["Anna", "Boris"])
        assert vault.find(SUBJECT, "Anna") == tokens["Anna"]
        assert vault.rotate().keys == 2
        assert vault.identity_of(tokens["Boris"]) == "Boris"
        assert vault.forget(tokens["Anna"], "e" * 32) == 2
        assert vault.find(SUBJECT, "Anna") is None
        assert vault.erased()[tokens["Anna"]] == "e" * 32
    # A second process finds the tables and makes none.
    with _vault(logins["keys"], keys) as vault:
        assert vault.find(SUBJECT, "Boris") == tokens["Boris"]


def test_nobody_else_may_look_into_the_schema_of_identities(
    logins: dict[str, sa.Engine], keys: Path
) -> None:
    """Every verb on each of its tables is refused to every other role."""
    with _vault(logins["keys"], keys) as vault:
        vault.erased()  # the tables are there
    statements = [
        f"{verb} {SCHEMA}.{table} {rest}"
        for table in KeysTable.metadata.tables
        for verb, rest in (
            ("SELECT 1 FROM", ""),
            ("INSERT INTO", "DEFAULT VALUES"),
            ("DELETE FROM", "WHERE false"),
            ("TRUNCATE", ""),
            ("DROP TABLE", ""),
        )
    ]
    for role in ("app", "sequencer", "auditor", "migrator"):
        assert [s for s in statements if _may(logins[role], s)] == [], role
    reads = [s for s in statements if s.startswith("SELECT")]
    assert all(_may(logins["keys"], statement) for statement in reads)


def test_a_login_without_the_right_is_told_which_setting_is_wrong(
    logins: dict[str, sa.Engine], keys: Path
) -> None:
    """The sentence names the role and the setting, and quotes no row."""
    with _vault(logins["keys"], keys) as vault:
        vault.erased()
    with (
        _vault(logins["app"], keys) as vault,
        pytest.raises(DatabaseUnavailableError, match="AFFIDAVIT_KEYS_DATABASE_URL"),
    ):
        vault.find(SUBJECT, "Anna")


def test_what_was_forgotten_is_vacuumed_away(
    logins: dict[str, sa.Engine], keys: Path
) -> None:
    """No dead row of an erased identity waits in the tables' pages."""
    with _vault(logins["keys"], keys) as vault:
        token = vault.tokens_for(SUBJECT, ["Carmen"])["Carmen"]
        with logins["keys"].connect() as connection:
            query = sa.text(f"SELECT sealed FROM {SCHEMA}.identities WHERE token = :t")  # noqa: S608
            sealed = bytes(connection.execute(query, {"t": token}).scalar_one())
            where = sa.text(f"SELECT pg_relation_filepath('{SCHEMA}.identities')")
            path = str(connection.execute(where).scalar_one())
        assert vault.forget(token, "f" * 32) == 2
    with logins["owner"].connect() as connection:
        connection.execute(sa.text("CHECKPOINT"))
        data = connection.execute(
            sa.text("SELECT pg_read_binary_file(:path)"), {"path": path}
        ).scalar_one()
    rows = list(_rows_in(bytes(data)))
    assert all(sealed not in row for row in rows)


def _rows_in(pages: bytes, size: int = 8192) -> Iterator[bytes]:
    """Yield what the line pointers of a table's pages still lead to.

    Source: PostgreSQL's documentation, Database Page Layout.
    """
    for start in range(0, len(pages), size):
        page = pages[start : start + size]
        (lower,) = struct.unpack_from("<H", page, 12)
        for place in range(24, lower, 4):
            (pointer,) = struct.unpack_from("<I", page, place)
            offset, flags, length = (
                pointer & 0x7FFF,
                pointer >> 15 & 3,
                pointer >> 17,
            )
            if flags == 1:
                yield page[offset : offset + length]

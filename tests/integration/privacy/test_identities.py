# SPDX-License-Identifier: Apache-2.0
"""Who is behind a token: encrypted, found by those with the key, forgotten for good."""

import json
import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.engine import create_engine, transaction
from storage.errors import KeyStoreError
from storage.identities.tables import SCHEMA, IdentityTable, SubjectKeyTable
from storage.identities.vault import SUBJECT, IdentityVault
from storage.identities.wrapping import KeyFile, seal, unseal
from storage.tables import SubjectTable
from tests.support.databases import opened_vault
from tests.support.workspace import Workspace

ANNA = "Anna Karenina 1877-01-01"


def _keys_engine(engine: sa.Engine, folder: Path) -> sa.Engine:
    """Return an engine on the tables of the keys' database."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(schema_translate_map={None: SCHEMA})
    return create_engine(f"sqlite:///{folder / 'keys.db'}")


def test_an_identity_has_one_token_and_comes_back(vault: IdentityVault) -> None:
    """The same value has the same token, others have others, and each is readable."""
    tokens = vault.tokens_for(SUBJECT, [ANNA, "Boris"])
    assert vault.tokens_for(SUBJECT, ["Boris", ANNA]) == tokens
    assert len(set(tokens.values())) == 2
    assert vault.identity_of(tokens[ANNA]) == ANNA
    assert vault.find(SUBJECT, ANNA) == tokens[ANNA]
    assert vault.find("group:ward", ANNA) is None
    assert vault.find(SUBJECT, "nobody") is None


def test_one_person_in_two_unicode_forms_is_one(vault: IdentityVault) -> None:
    """Composed, decomposed and padded with spaces are the same name."""
    tokens = vault.tokens_for(SUBJECT, ["Ren\u00e9", "Rene\u0301", " Ren\u00e9 "])
    assert len(set(tokens.values())) == 1


def test_nothing_readable_is_in_the_keys_database(
    engine: sa.Engine, vault: IdentityVault, tmp_path: Path
) -> None:
    """Neither the identity nor an unkeyed digest of it is in any column."""
    import hashlib

    token = vault.tokens_for(SUBJECT, [ANNA])[ANNA]
    keys = _keys_engine(engine, tmp_path)
    with keys.connect() as connection:
        row = connection.execute(sa.select(IdentityTable)).one()
    assert row.token == token
    stored = repr(tuple(row)).encode()
    guess = hashlib.sha256(f"subject\x00{ANNA}".encode()).hexdigest()
    for secret in (b"Anna", b"1877", guess.encode(), ANNA.encode().hex().encode()):
        assert secret not in stored
    assert row.blind_index != hashlib.sha256(ANNA.encode()).hexdigest()


@pytest.mark.parametrize("place", ["sealed", "wrapped", "swapped"])
def test_what_was_altered_does_not_open(
    engine: sa.Engine, vault: IdentityVault, tmp_path: Path, place: str
) -> None:
    """A flipped bit, or another row's ciphertext under this token, is noticed."""
    tokens = vault.tokens_for(SUBJECT, [ANNA, "Boris"])
    keys = _keys_engine(engine, tmp_path)
    with transaction(keys) as session:
        mine = session.get_one(IdentityTable, tokens[ANNA])
        other = session.get_one(IdentityTable, tokens["Boris"])
        held = session.get_one(SubjectKeyTable, tokens[ANNA])
        if place == "swapped":
            mine.sealed = other.sealed
        else:
            row = mine if place == "sealed" else held
            value = getattr(row, place)
            setattr(row, place, value[:-1] + bytes([value[-1] ^ 1]))
    with pytest.raises(KeyStoreError, match="altered"):
        vault.identity_of(tokens[ANNA])


def test_a_sealed_value_is_bound_to_its_context() -> None:
    """The same bytes under another context, or key, do not open."""
    key = os.urandom(32)
    sealed = seal(key, b"text", b"here")
    assert unseal(key, sealed, b"here") == b"text"
    assert seal(key, b"text", b"here") != sealed
    for bad_key, bad_context in ((key, b"there"), (os.urandom(32), b"here")):
        with pytest.raises(KeyStoreError):
            unseal(bad_key, sealed, bad_context)


def test_forgetting_leaves_nothing_and_is_remembered(
    engine: sa.Engine, vault: IdentityVault, tmp_path: Path
) -> None:
    """Identity and key are gone, the token is listed, and a new one is another's."""
    token = vault.tokens_for(SUBJECT, [ANNA])[ANNA]
    with _keys_engine(engine, tmp_path).connect() as connection:
        sealed = connection.scalar(sa.select(IdentityTable.sealed))
    assert vault.forget(token, "e1") == 2
    assert vault.forget(token, "e1") == 0
    assert vault.identity_of(token) is None
    assert vault.find(SUBJECT, ANNA) is None
    assert vault.erased() == {token: "e1"}
    assert vault.tokens_for(SUBJECT, [ANNA])[ANNA] != token
    if engine.dialect.name == "sqlite":
        bytes_left = b"".join(p.read_bytes() for p in tmp_path.glob("keys.db*"))
        assert sealed
        assert sealed not in bytes_left


def test_a_backup_of_wrapped_keys_opens_nothing_after_a_rotation(
    sqlite_engine: sa.Engine, tmp_path: Path
) -> None:
    """A new epoch keeps the living and leaves an old backup shut."""
    with opened_vault(sqlite_engine, tmp_path) as vault:
        tokens = vault.tokens_for(SUBJECT, [ANNA, "Boris"])
    shutil.copyfile(tmp_path / "keys.db", tmp_path / "backup.db")
    with opened_vault(sqlite_engine, tmp_path) as vault:
        vault.forget(tokens[ANNA], "e1")
        done = vault.rotate()
        assert (done.keys, done.forgotten) == (1, 1)
        assert vault.identity_of(tokens["Boris"]) == "Boris"
    (tmp_path / "keys.db").unlink()
    shutil.move(tmp_path / "backup.db", tmp_path / "keys.db")
    with (
        opened_vault(sqlite_engine, tmp_path) as restored,
        pytest.raises(KeyStoreError, match="is gone"),
    ):
        restored.identity_of(tokens[ANNA])


def test_other_keys_than_those_of_the_database_are_refused(
    sqlite_engine: sa.Engine, tmp_path: Path
) -> None:
    """A missing file is not made anew, and another installation's is noticed."""
    with opened_vault(sqlite_engine, tmp_path) as vault:
        vault.tokens_for(SUBJECT, [ANNA])
    path = tmp_path / "subjects.keys"
    path.rename(tmp_path / "elsewhere")
    with (
        opened_vault(sqlite_engine, tmp_path) as vault,
        pytest.raises(KeyStoreError, match="is not here"),
    ):
        vault.tokens_for(SUBJECT, [ANNA])
    assert not path.exists()
    KeyFile(path, may_create=True)
    with (
        opened_vault(sqlite_engine, tmp_path) as vault,
        pytest.raises(KeyStoreError, match="another installation"),
    ):
        vault.tokens_for(SUBJECT, [ANNA])


@pytest.mark.parametrize("content", [b"", b"{}", b'{"epochs": 3}', b"\xff", b"[]"])
def test_a_key_file_that_is_none_is_one_sentence(
    tmp_path: Path, content: bytes
) -> None:
    """Nonsense is named as such, and never quoted."""
    path = tmp_path / "keys"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyStoreError, match="holds no keys of subjects"):
        KeyFile(path, may_create=True)


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It is made with mode 0600, and refused when others can read it."""
    path = tmp_path / "keys"
    KeyFile(path, may_create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        KeyFile(path, may_create=True)


def test_an_upgrade_moves_plain_identities_away(tmp_path: Path) -> None:
    """They keep their tokens, and the plain text is in no byte of the database."""
    workspace = Workspace(folder=tmp_path)
    assert workspace.call("init").code == 0
    engine = create_engine(f"sqlite:///{workspace.database}")
    with transaction(engine) as session:
        for number in range(3):
            session.add(
                SubjectTable(
                    token=f"{number:032d}",
                    kind="group:ward" if number == 2 else SUBJECT,
                    value=f"{ANNA} {number}",
                    value_sha256=f"{number:064d}",
                    created_at=1.0,
                )
            )
    engine.dispose()
    assert workspace.call("db", "upgrade").code == 0
    assert workspace.rows("subjects") == []
    left = b"".join(p.read_bytes() for p in workspace.home.glob("*.db*"))
    assert b"Karenina" not in left
    with opened_vault(engine, workspace.home) as vault:
        assert vault.find(SUBJECT, f"{ANNA} 1") == f"{1:032d}"
        assert vault.identity_of(f"{2:032d}") == f"{ANNA} 2"
    moved = [
        json.loads(row["body"])["details"]
        for row in workspace.rows("ledger_entries")
        if b"identities:moved" in row["body"]
    ]
    assert moved == [{"count": 3}]

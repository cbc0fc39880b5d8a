# SPDX-License-Identifier: Apache-2.0
"""Tokens for identities and back, and forgetting them for good."""

import secrets
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import create_engine, epoch_now, reading, transaction
from storage.errors import KeyStoreError
from storage.identities.tables import (
    SCHEMA,
    ErasedTable,
    IdentityTable,
    KeyHolderTable,
    KeysTable,
    SubjectKeyTable,
)
from storage.identities.wrapping import KEY_BYTES, KeyWrapper, seal, unseal
from storage.locks import Lock, hold
from storage.scrubbing import scrub, scrubbing
from storage.subjects import new_token

#: The kind of persons and accounts; groups have kinds of their own.
SUBJECT = "subject"
#: Rows in memory and in a statement at a time.
CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What a rotation did."""

    epoch: str
    keys: int
    forgotten: int


class IdentityVault:
    """The keys' database and the keys that open it; made at first use."""

    def __init__(self, url: str, open_keys: Callable[[bool], KeyWrapper]) -> None:
        """Nothing is opened yet.

        Args:
            url: Of the keys' database.
            open_keys: Returns the keys; told whether new ones may be made.
        """
        self._url = url
        self._open_keys = open_keys

    @cached_property
    def _engine(self) -> sa.Engine:
        engine = create_engine(self._url)
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(schema_translate_map={None: SCHEMA})
        if not _is_laid_out(engine):
            with transaction(engine) as session:
                hold(session, Lock.MIGRATION, SCHEMA)
                connection = session.connection()
                if engine.dialect.name == "postgresql":
                    connection.execute(_MAKE_SCHEMA)
                KeysTable.metadata.create_all(connection)
        return engine

    @cached_property
    def _keys(self) -> KeyWrapper:
        with reading(self._engine) as session:
            stated = session.scalar(sa.select(KeyHolderTable.fingerprint))
        # Where rows are under keys already, others must not be made beside them.
        keys = self._open_keys(stated is None)
        if stated is None:
            with transaction(self._engine) as session:
                hold(session, Lock.SUBJECTS)
                stated = session.scalar(sa.select(KeyHolderTable.fingerprint))
                if stated is None:
                    stated = keys.fingerprint
                    session.add(KeyHolderTable(id=1, fingerprint=stated))
        if stated != keys.fingerprint:
            raise KeyStoreError(
                "The keys of subjects at hand are those of another installation; set "
                "AFFIDAVIT_KEYS_FILE to the file that belongs to this database."
            )
        return keys

    def tokens_for(self, kind: str, values: Iterable[str]) -> dict[str, str]:
        """Return the token of each value, made at its first appearance.

        A token is random: nothing about the value can be computed from it. It is
        stored at once, whatever becomes of the caller's transaction: an identity that
        nothing refers to does no harm.

        Args:
            kind: `subject`, or `group:<column>`.
            values: The original values.
        """
        wanted = sorted(set(values))
        if not wanted:
            return {}
        index = {value: self._blind(kind, value) for value in wanted}
        with reading(self._engine) as session:
            known = _known(session, kind, index.values())
        missing = {v: i for v, i in index.items() if i not in known}
        if missing:
            known |= self._add(kind, {value: new_token() for value in missing})
        return {value: known[found] for value, found in index.items()}

    def adopt(self, kind: str, tokens: Mapping[str, str]) -> None:
        """The values have these tokens, which an earlier version gave them."""
        self._add(kind, tokens)

    def _add(self, kind: str, tokens: Mapping[str, str]) -> dict[str, str]:
        """Return the tokens by blind index; a value that has one keeps it."""
        fresh = {self._blind(kind, value): value for value in tokens}
        with transaction(self._engine) as session:
            # Of two planners that meet the same persons, one is first.
            hold(session, Lock.SUBJECTS)
            known = _known(session, kind, fresh)
            now = session.scalar(sa.select(epoch_now()))
            identities, keys = [], []
            for blind, value in fresh.items():
                if blind in known:
                    continue
                token = known[blind] = tokens[value]
                key = secrets.token_bytes(KEY_BYTES)
                epoch = self._keys.current
                keys.append(
                    {
                        "token": token,
                        "epoch": epoch,
                        "wrapped": self._keys.wrap(epoch, key, _key_context(token)),
                    }
                )
                identities.append(
                    {
                        "token": token,
                        "kind": kind,
                        "blind_index": blind,
                        "sealed": seal(key, value.encode(), _context(token, kind)),
                        "created_at": now,
                    }
                )
            if identities:
                session.execute(sa.insert(SubjectKeyTable), keys)
                session.execute(sa.insert(IdentityTable), identities)
        return known

    def find(self, kind: str, value: str) -> str | None:
        """Return the token of a value, None where it has none."""
        blind = self._blind(kind, value)
        with reading(self._engine) as session:
            return _known(session, kind, [blind]).get(blind)

    def identity_of(self, token: str) -> str | None:
        """Return what a token stands for, None where nobody knows (any more).

        Raises:
            KeyStoreError: its key is gone, or was altered.
        """
        with reading(self._engine) as session:
            row = session.get(IdentityTable, token)
            held = session.get(SubjectKeyTable, token)
        if row is None or held is None:
            return None
        key = self._keys.unwrap(held.epoch, held.wrapped, _key_context(token))
        return unseal(key, row.sealed, _context(token, row.kind)).decode()

    def forget(self, token: str, erasure_id: str) -> int:
        """Return how many rows are gone: nobody can tell who the token was.

        That it was forgotten stays, so that it is forgotten again after a restore.
        """
        with transaction(self._engine) as session:
            scrubbing(session)
            gone = 0
            for table in (IdentityTable, SubjectKeyTable):
                found = session.connection().execute(
                    sa.delete(table).where(table.token == token)
                )
                gone += int(found.rowcount)
            if session.get(ErasedTable, token) is None:
                now = session.scalar(sa.select(epoch_now())) or 0.0
                session.add(ErasedTable(token=token, erasure_id=erasure_id, at=now))
        freed = [IdentityTable, SubjectKeyTable]
        scrub(self._engine, [f"{SCHEMA}.{table.__tablename__}" for table in freed])
        return gone

    def erased(self) -> dict[str, str]:
        """Return the tokens that were forgotten, and the erasure of each."""
        with reading(self._engine) as session:
            rows = session.execute(sa.select(ErasedTable.token, ErasedTable.erasure_id))
            return {row.token: row.erasure_id for row in rows}

    def rotate(self) -> Rotated:
        """Return what was done: the living keys are under a new epoch, old ones gone.

        A backup of wrapped keys opens nothing from then on.
        """
        keys = self._keys
        epoch = keys.begin_epoch()
        count, old = 0, set()
        while True:
            with transaction(self._engine) as session:
                rows = session.scalars(
                    sa.select(SubjectKeyTable)
                    .where(SubjectKeyTable.epoch != epoch)
                    .limit(CHUNK)
                ).all()
                for row in rows:
                    old.add(row.epoch)
                    context = _key_context(row.token)
                    key = keys.unwrap(row.epoch, row.wrapped, context)
                    row.wrapped = keys.wrap(epoch, key, context)
                    row.epoch = epoch
                count += len(rows)
            if not rows:
                break
        for name in sorted(old):
            keys.forget(name)
        return Rotated(epoch=epoch, keys=count, forgotten=len(old))

    def close(self) -> None:
        """Connections are given back."""
        if "_engine" in self.__dict__:
            self._engine.dispose()

    def _blind(self, kind: str, value: str) -> str:
        # One person written in two Unicode forms is one person.
        normal = unicodedata.normalize("NFC", value).strip()
        return self._keys.blind_index(f"{kind}\x00{normal}".encode())


#: Not `CREATE SCHEMA IF NOT EXISTS`, which asks for a right even where there is one.
_MAKE_SCHEMA = sa.text(  # the name is our own
    "DO $$ BEGIN "  # noqa: S608
    f"IF NOT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = '{SCHEMA}') THEN "
    f"CREATE SCHEMA {SCHEMA}; END IF; END $$"
)


def _is_laid_out(engine: sa.Engine) -> bool:
    """Whether the tables are there, so that nobody needs the right to make them."""
    schema = SCHEMA if engine.dialect.name == "postgresql" else None
    with reading(engine) as session:
        found = sa.inspect(session.connection()).get_table_names(schema=schema)
    return set(KeysTable.metadata.tables) <= set(found)


def _known(session: Session, kind: str, indexes: Iterable[str]) -> dict[str, str]:
    wanted = list(indexes)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), CHUNK):
        rows = session.execute(
            sa.select(IdentityTable.blind_index, IdentityTable.token).where(
                IdentityTable.kind == kind,
                IdentityTable.blind_index.in_(wanted[start : start + CHUNK]),
            )
        )
        found.update((row.blind_index, row.token) for row in rows)
    return found


def _context(token: str, kind: str) -> bytes:
    return f"affidavit|{token}|{kind}|identity|1".encode()


def _key_context(token: str) -> bytes:
    return f"affidavit|{token}|key|1".encode()

# SPDX-License-Identifier: Apache-2.0
"""What each level of defence finds of each attack, on PostgreSQL and a locked bucket.

The levels: the entries alone with their hashes (a chain without a signature), signed
checkpoints in the same database, and checkpoints in a bucket with Object Lock. The
attacker owns the database, and in the last row but one the signing key as well.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.checkpoint import Checkpoint, SigningKey
from ledger.entries import Action
from ledger.failures import FailureKind
from ledger.merkle import CompactRange, leaf_hash
from ledger.verifier import examine_entries
from storage.anchoring.places import AnchorPlace, open_place
from storage.engine import transaction
from storage.events import record
from storage.ledger_signing import write_checkpoint
from storage.ledger_writer import latest_checkpoint, read_checkpoints, read_entries
from storage.objects.s3 import s3_client
from tests.support.servers import S3Server

ORIGIN = "example.com/log"
EVENTS = 20
#: The last checkpoint before the end, and the last that was anchored.
MIDDLE, ANCHORED = 10, 16


@dataclass(frozen=True)
class Victim:
    """A ledger of twenty entries, its key and its anchors."""

    engine: sa.Engine
    key: SigningKey
    place: AnchorPlace

    def tell(self, connection: sa.Connection, statement: str, **values: Any) -> None:
        """A statement is run as the owner of the database."""
        connection.execute(sa.text(statement), values)


@pytest.fixture
def victim(postgres_engine: sa.Engine, moto_s3: S3Server, tmp_path: Path) -> Victim:
    """The ledger, signed at 10, 16 and 20 entries and anchored at 10 and 16."""
    name = f"t-{secrets.token_hex(8)}"
    client: Any = s3_client(moto_s3.config)
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    engine = postgres_engine
    key = SigningKey.generate(ORIGIN)
    place = open_place(f"s3://{name}", moto_s3.config, retention_days=30)
    memory = tmp_path / "head"
    for number in range(EVENTS):
        with transaction(engine) as session:
            record(
                session,
                Action.ITEM_READ,
                f"run/r/item/{number}",
                actor="user/jane",
                details={"count": number},
            )
        if number + 1 in {MIDDLE, ANCHORED, EVENTS}:
            write_checkpoint(engine, key, ORIGIN, memory)
            note = latest_checkpoint(engine)
            if number + 1 < EVENTS and note is not None:
                place.keep(note)
    with engine.begin() as connection:
        for table in ("ledger_entries", "checkpoints"):
            connection.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
    return Victim(engine, key, place)


def _bodies(connection: sa.Connection) -> list[bytes]:
    rows = connection.execute(sa.text("SELECT body FROM ledger_entries ORDER BY idx"))
    return [bytes(row[0]) for row in rows]


def _store(victim: Victim, connection: sa.Connection, bodies: list[bytes]) -> None:
    """The ledger has these entries, each with a hash that fits it."""
    connection.execute(sa.text("DELETE FROM ledger_entries"))
    for index, body in enumerate(bodies):
        victim.tell(
            connection,
            "INSERT INTO ledger_entries VALUES (:idx, :leaf, :body)",
            idx=index,
            leaf=leaf_hash(body),
            body=body,
        )


def _edited(body: bytes) -> bytes:
    return body.replace(b"user/jane", b"user/evil")


def _edit_body(victim: Victim, connection: sa.Connection) -> None:
    body = _bodies(connection)[5]
    victim.tell(
        connection,
        "UPDATE ledger_entries SET body = :body WHERE idx = 5",
        body=_edited(body),
    )


def _edit_body_and_hash(victim: Victim, connection: sa.Connection) -> None:
    bodies = _bodies(connection)
    bodies[5] = _edited(bodies[5])
    _store(victim, connection, bodies)


def _delete_in_the_middle(victim: Victim, connection: sa.Connection) -> None:
    victim.tell(connection, "DELETE FROM ledger_entries WHERE idx = 5")


def _insert_in_the_middle(victim: Victim, connection: sa.Connection) -> None:
    bodies = _bodies(connection)
    _store(victim, connection, [*bodies[:5], _edited(bodies[5]), *bodies[5:]])


def _reorder(victim: Victim, connection: sa.Connection) -> None:
    bodies = _bodies(connection)
    bodies[5], bodies[6] = bodies[6], bodies[5]
    _store(victim, connection, bodies)


def _truncate_tail(victim: Victim, connection: sa.Connection) -> None:
    victim.tell(connection, "DELETE FROM ledger_entries WHERE idx >= 10")
    victim.tell(connection, "DELETE FROM checkpoints WHERE tree_size > 10")


def _rewrite(victim: Victim, connection: sa.Connection) -> None:
    _store(victim, connection, [_edited(body) for body in _bodies(connection)])


def _rewrite_late(victim: Victim, connection: sa.Connection) -> None:
    """Everything after a checkpoint that stays is written anew, later ones are gone."""
    bodies = _bodies(connection)
    _store(victim, connection, bodies[:MIDDLE] + [_edited(b) for b in bodies[MIDDLE:]])
    victim.tell(connection, "DELETE FROM checkpoints WHERE tree_size > 10")


def _rewrite_with_key(victim: Victim, connection: sa.Connection) -> None:
    _rewrite(victim, connection)
    tree = CompactRange()
    for body in _bodies(connection):
        tree.append(leaf_hash(body))
        if tree.size in {MIDDLE, ANCHORED, EVENTS}:
            victim.tell(
                connection,
                "UPDATE checkpoints SET root = :root, note = :note "
                "WHERE tree_size = :size",
                root=tree.root(),
                note=victim.key.sign(Checkpoint(ORIGIN, tree.size, tree.root())),
                size=tree.size,
            )


def _drop_since_the_anchor(victim: Victim, connection: sa.Connection) -> None:
    victim.tell(connection, "DELETE FROM ledger_entries WHERE idx >= 16")
    victim.tell(connection, "DELETE FROM checkpoints WHERE tree_size > 16")


Attack = Callable[[Victim, sa.Connection], None]

#: By attack: found by hashes alone, by signed checkpoints, by anchors.
MATRIX: list[tuple[Attack, tuple[bool, bool, bool]]] = [
    (_edit_body, (True, True, True)),
    (_edit_body_and_hash, (False, True, True)),
    (_delete_in_the_middle, (True, True, True)),
    (_insert_in_the_middle, (False, True, True)),
    (_reorder, (False, True, True)),
    (_truncate_tail, (False, False, True)),
    (_rewrite, (False, True, True)),
    (_rewrite_late, (False, False, True)),
    (_rewrite_with_key, (False, False, True)),
    (_drop_since_the_anchor, (False, False, False)),
]

#: Entries newer than the last checkpoint are no sign of an attack.
_HARMLESS = {FailureKind.NOT_COVERED}


def _found(victim: Victim, notes: list[str]) -> bool:
    verdict = examine_entries(read_entries(victim.engine), notes, victim.key.verifier)
    return bool({failure.kind for failure in verdict.failures} - _HARMLESS)


def _ticks(victim: Victim) -> tuple[bool, bool, bool]:
    signed = [note for _size, _root, note in read_checkpoints(victim.engine)]
    return (
        _found(victim, []),
        _found(victim, signed),
        _found(victim, [*signed, *victim.place.notes()]),
    )


def test_an_honest_ledger_has_no_tick(victim: Victim) -> None:
    """Without an attack no level finds anything."""
    assert _ticks(victim) == (False, False, False)


@pytest.mark.parametrize(
    ("attack", "ticks"),
    MATRIX,
    ids=[attack.__name__.strip("_") for attack, _ticks in MATRIX],
)
def test_each_attack_is_found_where_the_matrix_says(
    victim: Victim, attack: Attack, ticks: tuple[bool, bool, bool]
) -> None:
    """The row of ticks is the one that the threat model prints, the gap included."""
    with victim.engine.begin() as connection:
        attack(victim, connection)
    assert _ticks(victim) == ticks


def test_the_anchors_cannot_be_taken_back(victim: Victim, moto_s3: S3Server) -> None:
    """Who has the bucket's keys as well can neither delete nor replace an anchor."""
    client: Any = s3_client(moto_s3.config)
    bucket = victim.place.name.removeprefix("s3://")
    kept = list(victim.place.notes())
    for version in client.list_object_versions(Bucket=bucket)["Versions"]:
        where = {"Bucket": bucket, "Key": version["Key"]}
        with pytest.raises(client.exceptions.ClientError):
            client.delete_object(**where, VersionId=version["VersionId"])
        with pytest.raises(client.exceptions.ClientError):
            client.put_object(**where, Body=b"other", IfNoneMatch="*")
    assert list(victim.place.notes()) == kept

# SPDX-License-Identifier: Apache-2.0
"""Locks between processes that end with the transaction that took them.

SQLite needs none: each writing transaction has the whole database to itself (BEGIN
IMMEDIATE). On PostgreSQL they are advisory locks; the ledger's leader and Alembic's
entry have keys of one number, which never meet these of two.
"""

import hashlib
from enum import IntEnum

import sqlalchemy as sa
from sqlalchemy.orm import Session


class Lock(IntEnum):
    """What is to be done by one process at a time; taken in this order."""

    #: Bringing the schema up to date.
    MIGRATION = 0x4146_0000
    #: Writing an audit that is new; one lock for each audit.
    AUDIT = 0x4146_0001
    #: Giving tokens to subjects and groups that are new.
    SUBJECTS = 0x4146_0002
    #: Choosing the shards that are hinted at next.
    DISPATCH = 0x4146_0003
    #: Adding and revoking principals, of whom one must stay.
    PRINCIPALS = 0x4146_0004
    #: Publishing the ledger's tiles.
    TILES = 0x4146_0005


def hold(session: Session, lock: Lock, name: str = "") -> None:
    """No other transaction holds the lock of this name until the caller's ends."""
    if session.get_bind().dialect.name != "postgresql":
        return
    digest = hashlib.sha256(name.encode()).digest()
    key = int.from_bytes(digest[:4], "big", signed=True)
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(int(lock), key)))

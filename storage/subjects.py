# SPDX-License-Identifier: Apache-2.0
"""Random tokens for persons, accounts and group values."""

import hashlib
import secrets
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import epoch_now
from storage.locks import Lock, hold
from storage.tables import SubjectTable


def new_token() -> str:
    """Return 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def tokens_for(session: Session, kind: str, values: Iterable[str]) -> dict[str, str]:
    """Return the token of each value, made at its first appearance.

    A token is random: nothing about the value can be computed from it.

    Args:
        session: The caller's transaction.
        kind: `subject`, or `group:<column>`.
        values: The original values.
    """
    wanted = sorted(set(values))
    if not wanted:
        return {}
    known = _known(session, kind, wanted)
    missing = [value for value in wanted if value not in known]
    if not missing:
        return known
    # Two planners that meet the same persons in another order would each wait for the
    # other's rows for ever; so one at a time brings in new ones.
    hold(session, Lock.SUBJECTS)
    now = session.scalar(sa.select(epoch_now()))
    rows = [
        {
            "token": new_token(),
            "kind": kind,
            "value": value,
            "value_sha256": _digest(value),
            "created_at": now,
        }
        for value in missing
    ]
    # Loading a dialect takes as long as a look at a run, and few lookers insert.
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if postgres else sqlite.insert
    # A planner that held the lock before may have met the same person; its token wins.
    session.execute(
        insert(SubjectTable).on_conflict_do_nothing(
            index_elements=[SubjectTable.kind, SubjectTable.value_sha256]
        ),
        rows,
    )
    return known | _known(session, kind, missing)


def _known(session: Session, kind: str, values: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(values), 500):
        rows = session.execute(
            sa.select(SubjectTable.value, SubjectTable.token).where(
                SubjectTable.kind == kind,
                SubjectTable.value_sha256.in_(
                    [_digest(value) for value in values[start : start + 500]]
                ),
            )
        )
        found.update((row.value, row.token) for row in rows)
    return found


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()

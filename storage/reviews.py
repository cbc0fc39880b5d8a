# SPDX-License-Identifier: Apache-2.0
"""What came after a report: sign-offs and re-verifications, by run and by audit."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from storage.engine import reading
from storage.tables import AuditTable, ReverificationTable, RunTable, SignOffTable


def sign_offs_of(engine: sa.Engine, run_id: str) -> Sequence[SignOffTable]:
    """Return the sign-offs of a run, the oldest first."""
    with reading(engine) as session:
        return session.scalars(
            sa.select(SignOffTable)
            .where(SignOffTable.run_id == run_id)
            .order_by(SignOffTable.signed_at, SignOffTable.id)
        ).all()


def reverifications_of(engine: sa.Engine, run_id: str) -> Sequence[ReverificationTable]:
    """Return the re-verifications of a run, the oldest first."""
    with reading(engine) as session:
        return session.scalars(
            sa.select(ReverificationTable)
            .where(ReverificationTable.run_id == run_id)
            .order_by(ReverificationTable.made_at, ReverificationTable.id)
        ).all()


def audit_sign_offs(
    engine: sa.Engine, audit: str, *, most: int
) -> list[tuple[SignOffTable, float | None]]:
    """Return (sign-off, end of its run) of all runs of an audit, the newest first."""
    with reading(engine) as session:
        rows = session.execute(
            sa.select(SignOffTable, RunTable.finished_at)
            .join(RunTable, RunTable.id == SignOffTable.run_id)
            .where(SignOffTable.run_id.in_(_runs_of(audit)))
            .order_by(SignOffTable.signed_at.desc(), SignOffTable.id)
            .limit(most)
        )
        return [(row[0], row[1]) for row in rows]


def audit_reverifications(
    engine: sa.Engine, audit: str, *, most: int
) -> Sequence[ReverificationTable]:
    """Return the re-verifications of all runs of an audit, the newest first."""
    with reading(engine) as session:
        return session.scalars(
            sa.select(ReverificationTable)
            .where(ReverificationTable.run_id.in_(_runs_of(audit)))
            .order_by(ReverificationTable.made_at.desc(), ReverificationTable.id)
            .limit(most)
        ).all()


def _runs_of(audit: str) -> sa.Select[Any]:
    return (
        sa.select(RunTable.id)
        .join(AuditTable, AuditTable.id == RunTable.audit_id)
        .where(AuditTable.name == audit)
    )

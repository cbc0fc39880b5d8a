# SPDX-License-Identifier: Apache-2.0
"""How long runs are kept, as rows; and deleting those of a run."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import epoch_now
from storage.scrubbing import scrubbing
from storage.tables import (
    ItemTable,
    LegalHoldTable,
    LocationTable,
    RunRetentionTable,
    ShardTable,
    SignOffTable,
    SuspectTable,
)


def kept_as(session: Session, run_id: str) -> RunRetentionTable | None:
    """Return what was decided about a run; None where its spec alone says it."""
    return session.get(RunRetentionTable, run_id)


def keep_as(session: Session, run_id: str, retention: str) -> None:
    """The run is kept like that, whatever its spec says."""
    _row(session, run_id).retention = retention


def mark_purged(session: Session, run_id: str) -> None:
    """The run's row says that nothing else is left of it."""
    _row(session, run_id).purged_at = session.scalar(sa.select(epoch_now()))


def _row(session: Session, run_id: str) -> RunRetentionTable:
    row = session.get(RunRetentionTable, run_id)
    if row is None:
        row = RunRetentionTable(run_id=run_id)
        session.add(row)
    return row


def delete_rows(session: Session, run_id: str) -> None:
    """The run's items, manifest and suspects are gone, and comments of reviewers."""
    scrubbing(session)
    shards = sa.select(ShardTable.id).where(ShardTable.run_id == run_id)
    for statement in (
        sa.delete(ItemTable).where(ItemTable.run_id == run_id),
        sa.delete(LocationTable).where(LocationTable.run_id == run_id),
        sa.delete(SuspectTable).where(SuspectTable.shard_id.in_(shards)),
    ):
        session.execute(statement.execution_options(synchronize_session=False))
    session.execute(
        sa.update(SignOffTable)
        .where(SignOffTable.run_id == run_id)
        .values(comment=None, comment_salt=None)
        .execution_options(synchronize_session=False)
    )


def subjects_of(session: Session, run_id: str, *, held: bool) -> list[str]:
    """Return the subjects of a run, or those of them that are held."""
    query = (
        sa.select(LocationTable.subject_token)
        .where(LocationTable.run_id == run_id, LocationTable.subject_token.is_not(None))
        .distinct()
        .order_by(LocationTable.subject_token)
    )
    if held:
        query = query.join(
            LegalHoldTable,
            LegalHoldTable.object
            == sa.literal("subject/").concat(LocationTable.subject_token),
        ).where(LegalHoldTable.released_at.is_(None))
    return [str(token) for token in session.scalars(query)]

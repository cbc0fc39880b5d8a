# SPDX-License-Identifier: Apache-2.0
"""Identities of earlier versions, moved out of their plain table."""

import sqlalchemy as sa

from ledger.entries import Action
from pipeline.services import Services
from storage.engine import reading, transaction
from storage.events import record
from storage.scrubbing import scrub, scrubbing
from storage.subjects import plain_identities
from storage.tables import SubjectTable

_CHUNK = 500


def move_identities(services: Services) -> int:
    """Return how many identities are encrypted now and no longer in the plain table.

    Each keeps its token. A crash in between moves some of them twice, which is no
    harm: a value that is known keeps its token.

    Raises:
        KeyStoreError: the keys of subjects are not at hand.
    """
    moved = 0
    while True:
        with reading(services.engine) as session:
            rows = plain_identities(session, limit=_CHUNK)
        if not rows:
            break
        for kind in sorted({row.kind for row in rows}):
            services.vault.adopt(
                kind, {row.value: row.token for row in rows if row.kind == kind}
            )
        with transaction(services.engine) as session:
            scrubbing(session)
            session.execute(
                sa.delete(SubjectTable).where(
                    SubjectTable.token.in_([row.token for row in rows])
                )
            )
            record(
                session,
                Action.IDENTITIES_MOVED,
                "identities",
                actor=services.actor,
                details={"count": len(rows)},
            )
        moved += len(rows)
    if moved:
        scrub(services.engine, [SubjectTable.__tablename__])
    return moved

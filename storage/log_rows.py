# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries for whoever reads the log, oldest or newest first."""

from collections.abc import Iterator

import sqlalchemy as sa

from storage.engine import reading
from storage.ledger_writer import PAGE
from storage.tables import EntryTable


def newest_first(engine: sa.Engine, below: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (index, body, leaf hash) of the entries below an index, the last first."""
    following = below
    while following > 0:
        with reading(engine) as session:
            rows = session.execute(
                sa.select(EntryTable.idx, EntryTable.body, EntryTable.leaf_hash)
                .where(EntryTable.idx < following)
                .order_by(EntryTable.idx.desc())
                .limit(PAGE)
            ).all()
        if not rows:
            return
        yield from ((row[0], row[1], row[2]) for row in rows)
        following = rows[-1][0]

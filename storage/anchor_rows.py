# SPDX-License-Identifier: Apache-2.0
"""What the installation knows of its anchors: which checkpoint went where, and when."""

import sqlalchemy as sa

from storage.engine import epoch_now, reading, transaction
from storage.tables import AnchorTable


def anchored(engine: sa.Engine) -> list[tuple[str, int, float]]:
    """Return (place, tree size, moment) of every anchor, the smallest size first."""
    with reading(engine) as session:
        rows = session.execute(
            sa.select(
                AnchorTable.place, AnchorTable.tree_size, AnchorTable.at
            ).order_by(AnchorTable.tree_size, AnchorTable.place)
        )
        return [(row[0], row[1], row[2]) for row in rows]


def newest_anchor(engine: sa.Engine, place: str) -> tuple[int, float] | None:
    """Return the size of a place's newest anchor and the seconds since, or None."""
    with reading(engine) as session:
        row = session.execute(
            sa.select(AnchorTable.tree_size, epoch_now() - AnchorTable.at)
            .where(AnchorTable.place == place)
            .order_by(AnchorTable.tree_size.desc())
            .limit(1)
        ).one_or_none()
    return None if row is None else (row[0], max(0.0, float(row[1])))


def note_anchor(engine: sa.Engine, place: str, tree_size: int) -> None:
    """The database knows that the place holds the checkpoint of this size."""
    with transaction(engine) as session:
        if session.get(AnchorTable, (place, tree_size)) is None:
            session.add(
                AnchorTable(
                    place=place,
                    tree_size=tree_size,
                    at=session.execute(sa.select(epoch_now())).scalar_one(),
                )
            )

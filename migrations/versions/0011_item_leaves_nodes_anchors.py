# SPDX-License-Identifier: Apache-2.0
"""Salted leaves of items, stored subtrees of the ledger, and where it is anchored.

Why: one item's explanation is to be proven without showing another's, and without
reading the whole ledger for it; and an installation must know how much of the ledger
lies out of its own reach.
Phase: expand. Shards that are done already have no leaves.
"""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

WIDTH = 256
PAGE = 16_384


def upgrade() -> None:
    """Make the columns and tables; subtrees of what is there are computed once."""
    op.add_column("items", sa.Column("leaf_index", sa.Integer(), nullable=True))
    op.add_column("items", sa.Column("leaf_salt", sa.LargeBinary(), nullable=True))
    op.add_column("shards", sa.Column("item_leaves", sa.LargeBinary(), nullable=True))
    op.create_table(
        "ledger_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "idx", name="pk_ledger_nodes"),
    )
    op.create_table(
        "anchors",
        sa.Column("place", sa.String(length=300), nullable=False),
        sa.Column("tree_size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("place", "tree_size", name="pk_anchors"),
    )
    _fill_nodes()


def downgrade() -> None:
    """Proofs of items are gone, those of entries take longer; no entry is touched."""
    op.drop_table("anchors")
    op.drop_table("ledger_nodes")
    op.drop_column("shards", "item_leaves")
    op.drop_column("items", "leaf_salt")
    op.drop_column("items", "leaf_index")


def _fill_nodes() -> None:
    connection = op.get_bind()
    level = 1
    source = "SELECT leaf_hash FROM ledger_entries WHERE idx >= :a AND idx < :b"
    while True:
        count, first = 0, 0
        while True:
            rows = connection.execute(
                sa.text(f"{source} ORDER BY idx"), {"a": first, "b": first + PAGE}
            ).all()
            tiles = [
                [bytes(row[0]) for row in rows[start : start + WIDTH]]
                for start in range(0, len(rows) - WIDTH + 1, WIDTH)
            ]
            for number, tile in enumerate(tiles):
                connection.execute(
                    sa.text("INSERT INTO ledger_nodes VALUES (:level, :idx, :hash)"),
                    {
                        "level": level,
                        "idx": first // WIDTH + number,
                        "hash": _root(tile),
                    },
                )
            count += len(tiles)
            if len(rows) < PAGE:
                break
            first += PAGE
        if count < WIDTH:
            return
        source = (  # the level is our own number
            "SELECT hash FROM ledger_nodes "  # noqa: S608
            f"WHERE level = {level} AND idx >= :a AND idx < :b"
        )
        level += 1


def _root(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [
            hashlib.sha256(b"\x01" + left + right).digest()
            for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]

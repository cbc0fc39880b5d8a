# SPDX-License-Identifier: Apache-2.0
"""Remember which entries of the ledger tell of which run.

Why: the evidence of one item is a handful of entries; finding them read the whole
ledger.
Phase: expand. The rows of entries that are there already are made once.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

PAGE = 10_000

ABOUT_RUN = re.compile(
    rb'"object":"run/([A-Za-z0-9._-]{1,32})(?:/([A-Za-z0-9._:@=+/-]{1,200}))?"'
    rb',"schema":"[^"\\]{1,40}"\}\Z'
)


def upgrade() -> None:
    """Make the table and fill it from the entries."""
    op.create_table(
        "ledger_places",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("part", sa.String(length=200), nullable=False),
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "part", "idx", name="pk_ledger_places"),
    )
    _fill()


def downgrade() -> None:
    """Evidence takes longer to pack; no entry is touched."""
    op.drop_table("ledger_places")


def _fill() -> None:
    connection = op.get_bind()
    following = 0
    while True:
        rows = connection.execute(
            sa.text(
                "SELECT idx, body FROM ledger_entries WHERE idx >= :a "
                "ORDER BY idx LIMIT :most"
            ),
            {"a": following, "most": PAGE},
        ).all()
        places = [
            {"run_id": place[0], "part": place[1], "idx": index}
            for index, body in rows
            if (place := _place(body)) is not None
        ]
        if places:
            connection.execute(
                sa.text("INSERT INTO ledger_places VALUES (:run_id, :part, :idx)"),
                places,
            )
        if len(rows) < PAGE:
            return
        following = rows[-1][0] + 1


def _place(stored: object) -> tuple[str, str] | None:
    """Return run and part; SQLite may hold anything in a cell."""
    if not isinstance(stored, bytes | memoryview):
        return None
    body = bytes(stored)
    found = ABOUT_RUN.search(body)
    if found is not None:
        return found[1].decode("ascii"), (found[2] or b"").decode("ascii")
    return ("", "key") if b'"action":"key:rotated"' in body else None

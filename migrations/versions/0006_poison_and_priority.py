# SPDX-License-Identifier: Apache-2.0
"""Find the item that kills workers; let one run go before another.

Why: a shard that ends its worker again and again must end as results with one failed
item, not as a dead shard. Its row counts how attempts ended and names the item in work;
`suspects` holds what was found. Runs have a priority.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ZERO = sa.text("0")


def upgrade() -> None:
    """Shards know how they ended and what they were at; runs know their rank."""
    for name in ("deaths", "failures"):
        column = sa.Column(name, sa.Integer(), server_default=_ZERO, nullable=False)
        op.add_column("shards", column)
    op.add_column("shards", sa.Column("current_item", sa.BigInteger(), nullable=True))
    op.add_column(
        "runs",
        sa.Column("priority", sa.Integer(), server_default=_ZERO, nullable=False),
    )
    op.create_table(
        "suspects",
        sa.Column("shard_id", sa.BigInteger(), nullable=False),
        sa.Column("item_index", sa.BigInteger(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["shard_id"], ["shards.id"], name="fk_suspects_shard_id_shards"
        ),
        sa.PrimaryKeyConstraint("shard_id", "item_index", name="pk_suspects"),
    )


def downgrade() -> None:
    """Shards forget; runs are equal."""
    op.drop_table("suspects")
    op.drop_column("runs", "priority")
    for name in ("current_item", "failures", "deaths"):
        op.drop_column("shards", name)

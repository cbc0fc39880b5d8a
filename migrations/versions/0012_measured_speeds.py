# SPDX-License-Identifier: Apache-2.0
"""Remember how fast like work went and which batch size suited it.

Why: shards are sized by time, and what earlier shards took says more than a probe; a
batch size that was searched for need not be searched for again.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Shards know what they took, runs what they are like, searches what they found."""
    op.add_column("shards", sa.Column("work_s", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("speed_key", sa.String(64), nullable=True))
    op.create_index("ix_runs_speed_key", "runs", ["speed_key"])
    op.create_table(
        "batch_sizes",
        sa.Column("work_key", sa.String(64), nullable=False),
        sa.Column("device_name", sa.String(200), nullable=False),
        sa.Column("device", sa.String(16), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("trials", sa.JSON(), nullable=False),
        sa.Column("found_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("work_key", "device_name", name="pk_batch_sizes"),
    )


def downgrade() -> None:
    """What was measured is forgotten."""
    op.drop_table("batch_sizes")
    op.drop_index("ix_runs_speed_key", table_name="runs")
    op.drop_column("runs", "speed_key")
    op.drop_column("shards", "work_s")

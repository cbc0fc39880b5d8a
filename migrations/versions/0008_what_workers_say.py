# SPDX-License-Identifier: Apache-2.0
"""Workers say more of themselves, and the installation has a name.

Why: whoever looks after a fleet asks what a worker is doing, which software it runs,
where its metrics are and whether its clock is right. The installation's random id lets
two deployments notice that they share a broker.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Workers have room for what they say; the id is made when it is first asked."""
    op.add_column("workers", sa.Column("actor", sa.String(200), nullable=True))
    op.add_column("workers", sa.Column("software", sa.JSON(), nullable=True))
    op.add_column("workers", sa.Column("metrics_url", sa.String(200), nullable=True))
    op.add_column("workers", sa.Column("clock_ahead_s", sa.Double(), nullable=True))
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_installation_single_row"),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
    )


def downgrade() -> None:
    """Workers say less; the installation has no name."""
    op.drop_table("installation")
    for name in ("clock_ahead_s", "metrics_url", "software", "actor"):
        op.drop_column("workers", name)

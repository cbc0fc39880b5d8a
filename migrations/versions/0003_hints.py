# SPDX-License-Identifier: Apache-2.0
"""Count the hints of a shard.

Why: a hint that nobody follows goes out again after twice as long each time, so the row
must know how often it went out.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Shards count their hints."""
    op.add_column(
        "shards",
        sa.Column("hints", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    """Shards forget how often they were hinted at."""
    op.drop_column("shards", "hints")

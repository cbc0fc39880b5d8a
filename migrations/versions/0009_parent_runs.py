# SPDX-License-Identifier: Apache-2.0
"""Let a run name the run whose failed items it tries again.

Why: what a finished run says is never altered, so failed items get a run of their own.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Runs may have a parent."""
    # No foreign key, or SQLite could not drop the column; runs are never deleted.
    op.add_column("runs", sa.Column("parent_run_id", sa.String(32), nullable=True))


def downgrade() -> None:
    """Nobody knows which run tried which one's items again."""
    op.drop_column("runs", "parent_run_id")

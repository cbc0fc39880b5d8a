# SPDX-License-Identifier: Apache-2.0
"""Keep the digest of an item's ground-truth mask.

Why: numbers of localisation say nothing unless one can show which mask they refer to.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Items name their mask by its digest."""
    op.add_column("items", sa.Column("truth_sha256", sa.String(64), nullable=True))


def downgrade() -> None:
    """Items no longer name their mask."""
    op.drop_column("items", "truth_sha256")

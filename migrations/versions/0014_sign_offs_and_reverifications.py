# SPDX-License-Identifier: Apache-2.0
"""Reviewers sign reports, and parts of runs are computed again.

Why: a report is evidence of a review only if it says who read it and what they said;
and a stranger believes numbers more that somebody has computed twice.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Both have a table."""
    op.create_table(
        "sign_offs",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("report_verdict", sa.String(16), nullable=False),
        sa.Column("report_sha256", sa.String(64), nullable=False),
        sa.Column("signed_by", sa.String(300), nullable=False),
        sa.Column("signed_at", sa.Double(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("comment_salt", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_sign_offs_run_id_runs"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sign_offs"),
    )
    op.create_index("ix_sign_offs_run_id", "sign_offs", ["run_id"])
    op.create_table(
        "reverifications",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("made_by", sa.String(300), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_reverifications_run_id_runs"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reverifications"),
    )
    op.create_index("ix_reverifications_run_id", "reverifications", ["run_id"])


def downgrade() -> None:
    """What was said and computed again stays in the ledger alone."""
    op.drop_index("ix_reverifications_run_id", table_name="reverifications")
    op.drop_table("reverifications")
    op.drop_index("ix_sign_offs_run_id", table_name="sign_offs")
    op.drop_table("sign_offs")

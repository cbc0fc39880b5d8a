# SPDX-License-Identifier: Apache-2.0
"""Keep schedules, their slots, and where a run comes from.

Why: beat only ticks; which moments are due and which have had their run is said by SQL.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """There are schedules with slots, and runs say where they come from."""
    op.add_column("runs", sa.Column("origin", sa.JSON(none_as_null=True)))
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("spec_path", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("spec_digest", sa.String(64), nullable=False),
        sa.Column("weights_sha256", sa.String(64)),
        sa.Column("cron", sa.String(200), nullable=False),
        sa.Column("timezone", sa.String(64), nullable=False),
        sa.Column("catch_up", sa.String(16), nullable=False),
        sa.Column("incremental", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("next_slot", sa.Double(), nullable=False),
        sa.Column("missed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
    )
    op.create_index(op.f("ix_schedules_name"), "schedules", ["name"])
    op.create_index(op.f("ix_schedules_state"), "schedules", ["state"])
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "schedule_slots",
        sa.Column("id", key, nullable=False),
        sa.Column("schedule_id", sa.String(32), nullable=False),
        sa.Column("slot", sa.Double(), nullable=False),
        sa.Column("manual", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Double()),
        sa.Column("not_before", sa.Double()),
        sa.Column("dispatched_at", sa.Double()),
        sa.Column("worker", sa.String(200)),
        sa.Column("error", sa.String(64)),
        sa.Column("run_id", sa.String(32)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedules.id"],
            name=op.f("fk_schedule_slots_schedule_id_schedules"),
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_schedule_slots_run_id_runs")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_slots")),
        sa.UniqueConstraint(
            "schedule_id", "slot", name=op.f("uq_schedule_slots_schedule_id_slot")
        ),
    )
    op.create_index(
        "ix_schedule_slots_state_lease_until",
        "schedule_slots",
        ["state", "lease_until"],
    )
    op.create_index(op.f("ix_schedule_slots_run_id"), "schedule_slots", ["run_id"])


def downgrade() -> None:
    """Schedules are forgotten."""
    op.drop_table("schedule_slots")
    op.drop_table("schedules")
    op.drop_column("runs", "origin")

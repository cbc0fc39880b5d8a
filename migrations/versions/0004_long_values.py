# SPDX-License-Identifier: Apache-2.0
"""Index long texts by their digest, or not at all.

Why: PostgreSQL refuses an index entry above some 2,700 bytes, so that a long URI or
subject could not be stored. URIs need no index: duplicates are found by one pass over a
run.
Phase: expand and contract within one version.
"""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

#: Rows that are rewritten at a time.
CHUNK = 1000


def upgrade() -> None:
    """Subjects are unique by kind and digest; URIs are in no index."""
    op.drop_index("ix_locations_run_id_uri", "locations")
    op.add_column("subjects", sa.Column("value_sha256", sa.String(64), nullable=True))
    _fill_digests(op.get_bind())
    with op.batch_alter_table("subjects") as batch:
        batch.alter_column("value_sha256", existing_type=sa.String(64), nullable=False)
        batch.drop_constraint("uq_subjects_kind_value", type_="unique")
        batch.create_unique_constraint(
            "uq_subjects_kind_value_sha256", ["kind", "value_sha256"]
        )


def _fill_digests(connection: sa.Connection) -> None:
    subjects = sa.table(
        "subjects", sa.column("token"), sa.column("value"), sa.column("value_sha256")
    )
    missing = (
        sa.select(subjects.c.token, subjects.c.value)
        .where(subjects.c.value_sha256.is_(None))
        .limit(CHUNK)
    )
    fill = (
        sa.update(subjects)
        .where(subjects.c.token == sa.bindparam("which"))
        .values(value_sha256=sa.bindparam("digest"))
    )
    while rows := connection.execute(missing).all():
        connection.execute(
            fill,
            [
                {
                    "which": row.token,
                    "digest": hashlib.sha256(row.value.encode()).hexdigest(),
                }
                for row in rows
            ],
        )


def downgrade() -> None:
    """Texts are indexed whole again; long ones, if there are any, stand in the way."""
    with op.batch_alter_table("subjects") as batch:
        batch.drop_constraint("uq_subjects_kind_value_sha256", type_="unique")
        batch.create_unique_constraint("uq_subjects_kind_value", ["kind", "value"])
        batch.drop_column("value_sha256")
    op.create_index("ix_locations_run_id_uri", "locations", ["run_id", "uri"])

# SPDX-License-Identifier: Apache-2.0
"""The first schema: audits, runs, shards, items, personal data, ledger.

Why: everything starts here. The ledger's entries and checkpoints are append-only: the
database itself refuses UPDATE, DELETE and (PostgreSQL) TRUNCATE on them.
Phase: expand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("ledger_entries", "checkpoints")


def upgrade() -> None:
    """Make every table and the guards of the ledger."""
    _create_audits()
    _create_runs()
    _create_shards()
    _create_locations()
    _create_subjects()
    _create_items()
    _create_workers()
    _create_ledger_outbox()
    _create_ledger_entries()
    _create_checkpoints()
    _create_ledger_head()
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql()
    else:
        _guard_sqlite()


def downgrade() -> None:
    """Refuse: it would destroy the ledger."""
    raise RuntimeError(
        "Migration 0001 cannot be undone, since that would destroy the ledger; "
        "restore a backup or drop the database by hand."
    )


def _create_audits() -> None:
    op.create_table(
        "audits",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("spec_digest", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audits"),
    )
    op.create_index("ix_audits_name", "audits", ["name"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("audit_id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("spec_digest", sa.String(length=64), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("manifest_digest", sa.String(length=64), nullable=False),
        sa.Column("queue", sa.String(length=16), nullable=False),
        sa.Column("items_total", sa.BigInteger(), nullable=False),
        sa.Column("shards_total", sa.Integer(), nullable=False),
        sa.Column("not_comparable", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("finaliser_lease_until", sa.Double(), nullable=True),
        sa.Column("finaliser_attempt", sa.Integer(), nullable=False),
        sa.Column("result_digest", sa.String(length=64), nullable=True),
        sa.Column("summary", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name="fk_runs_audit_id_audits"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_audit_id", "runs", ["audit_id"])
    op.create_index("ix_runs_state", "runs", ["state"])


def _create_shards() -> None:
    op.create_table(
        "shards",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("shard_index", sa.Integer(), nullable=False),
        sa.Column("first_item", sa.BigInteger(), nullable=False),
        sa.Column("item_count", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("dispatched_at", sa.Double(), nullable=True),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("batches_done", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(length=64), nullable=True),
        sa.Column("object_key", sa.String(length=300), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_shards_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_shards"),
        sa.UniqueConstraint(
            "run_id", "shard_index", name="uq_shards_run_id_shard_index"
        ),
    )
    op.create_index("ix_shards_run_id_state", "shards", ["run_id", "state"])
    op.create_index("ix_shards_state_lease_until", "shards", ["state", "lease_until"])


def _create_locations() -> None:
    op.create_table(
        "locations",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("item_index", sa.BigInteger(), nullable=False),
        sa.Column("item_id", sa.String(length=32), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.String(length=200), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("mask_uri", sa.Text(), nullable=True),
        sa.Column("subject_token", sa.String(length=32), nullable=True),
        sa.Column("groups", sa.JSON(), nullable=True),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.Column("duplicate_of", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_locations_run_id_runs"
        ),
        sa.PrimaryKeyConstraint("run_id", "item_index", name="pk_locations"),
    )
    op.create_index("ix_locations_item_id", "locations", ["item_id"])
    op.create_index("ix_locations_run_id_uri", "locations", ["run_id", "uri"])
    op.create_index("ix_locations_subject_token", "locations", ["subject_token"])


def _create_subjects() -> None:
    op.create_table(
        "subjects",
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=200), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_subjects"),
        sa.UniqueConstraint("kind", "value", name="uq_subjects_kind_value"),
    )


def _create_items() -> None:
    op.create_table(
        "items",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("item_index", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(length=40), nullable=False),
        sa.Column("target_rule", sa.String(length=80), nullable=False),
        sa.Column("policy", sa.String(length=80), nullable=False),
        sa.Column("shard_index", sa.Integer(), nullable=False),
        sa.Column("item_id", sa.String(length=32), nullable=False),
        sa.Column("subject_token", sa.String(length=32), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("input_sha256", sa.String(length=64), nullable=True),
        sa.Column("predicted", sa.Integer(), nullable=True),
        sa.Column("target", sa.Integer(), nullable=True),
        sa.Column("label", sa.Integer(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("keep_requested", sa.Double(), nullable=True),
        sa.Column("keep_achieved", sa.Double(), nullable=True),
        sa.Column("cut", sa.Double(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("absences", sa.JSON(), nullable=False),
        sa.Column("record_digest", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "item_index"],
            ["locations.run_id", "locations.item_index"],
            name="fk_items_run_id_locations",
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "item_index", "method", "target_rule", "policy", name="pk_items"
        ),
    )
    op.create_index("ix_items_run_id_status", "items", ["run_id", "status"])


def _create_workers() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("queue", sa.String(length=16), nullable=False),
        sa.Column("device", sa.String(length=40), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("roots", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )


def _create_ledger_outbox() -> None:
    op.create_table(
        "ledger_outbox",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_outbox"),
    )


def _create_ledger_entries() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("idx", name="pk_ledger_entries"),
    )


def _create_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("tree_size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tree_size", name="pk_checkpoints"),
    )


def _create_ledger_head() -> None:
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("frontier", sa.JSON(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_ledger_head_single_row"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_head"),
    )


def _guard_postgresql() -> None:
    op.execute(
        """
        CREATE FUNCTION affidavit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
        $$
        BEGIN
            RAISE EXCEPTION 'The table % is append-only', TG_TABLE_NAME
                USING ERRCODE = 'insufficient_privilege';
        END
        $$
        """
    )
    for table in APPEND_ONLY:
        # A row trigger does not see TRUNCATE, a statement trigger sees everything.
        op.execute(
            f"CREATE TRIGGER {table}_append_only "
            f"BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION affidavit_refuse_change()"
        )
        # ALWAYS also holds in sessions that replicate.
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")


def _guard_sqlite() -> None:
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'The table {table} is append-only'); END"
            )

# SPDX-License-Identifier: Apache-2.0
"""Closes two ways round the ledger's guards.

Why: on SQLite `INSERT OR REPLACE` exchanges a row without any UPDATE or DELETE that a
trigger would see. And an entry in the outbox, not yet ordered, could be rewritten on
both databases; only its deletion must stay possible, since ordering it is that.
Phase: expand.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: Append-only tables of SQLite with their keys. A replacing insert can aim at the key
#: or at the rowid.
KEYS = {"ledger_entries": "idx", "checkpoints": "tree_size", "ledger_outbox": "id"}


def upgrade() -> None:
    """Refuse replacing inserts, and any change of a row of the outbox."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER ledger_outbox_append_only "
            "BEFORE UPDATE OR TRUNCATE ON ledger_outbox "
            "FOR EACH STATEMENT EXECUTE FUNCTION affidavit_refuse_change()"
        )
        op.execute(
            "ALTER TABLE ledger_outbox ENABLE ALWAYS TRIGGER ledger_outbox_append_only"
        )
        return
    for table, key in KEYS.items():
        is_taken = f"{key} = NEW.{key} OR rowid = NEW.rowid"
        op.execute(
            # The names come from the mapping above.
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {is_taken}) "
            f"BEGIN SELECT RAISE(ABORT, 'The table {table} is append-only'); END"
        )
    op.execute(
        "CREATE TRIGGER ledger_outbox_no_update BEFORE UPDATE ON ledger_outbox "
        "BEGIN SELECT RAISE(ABORT, 'The table ledger_outbox is append-only'); END"
    )


def downgrade() -> None:
    """Drop what the upgrade made; no row is touched."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER ledger_outbox_append_only ON ledger_outbox")
        return
    for table in KEYS:
        op.execute(f"DROP TRIGGER {table}_no_replace")
    op.execute("DROP TRIGGER ledger_outbox_no_update")

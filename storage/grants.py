# SPDX-License-Identifier: Apache-2.0
"""Who may do what to which table on PostgreSQL: roles, and the SQL that makes them so.

The rights are accident prevention and least privilege, not evidence: whoever owns the
server can grant himself anything, which is why checkpoints are anchored elsewhere.

    app        commands and workers: data, entries into the outbox, no ledger writes
    sequencer  the control worker: as `app`, and it orders entries, writes checkpoints
    auditor    reads the ledger and what it must be held against; writes nothing but the
               entry that it has read
    keys       whoever gives subjects their tokens: owns the schema of identities
               (`storage.identities.grants`), where nobody else may look in
    migrator   owns the schema and changes it; holds no data rights that it needs daily
"""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from storage.tables import Table

PREFIX: Final = "affidavit_"
ROLES: Final = ("app", "sequencer", "auditor", "keys", "migrator")

_LEDGER: Final = frozenset(
    {
        "ledger_entries",
        "ledger_nodes",
        "ledger_places",
        "ledger_head",
        "checkpoints",
        "anchors",
    }
)
#: Holds originals of persons; only who must see them reads them.
_PERSONAL: Final = frozenset({"subjects", "locations"})


def rights_of(role: str) -> Mapping[str, str]:
    """Return the rights of a role, by table; a table that is missing is forbidden."""
    tables = sorted(Table.metadata.tables)
    if role == "migrator":
        return {}
    if role == "keys":
        return {"ledger_outbox": "SELECT, INSERT", "subjects": "SELECT"}
    if role == "auditor":
        read = {name: "SELECT" for name in tables if name not in _PERSONAL}
        return read | {"ledger_outbox": "SELECT, INSERT"}
    data = "SELECT, INSERT, UPDATE, DELETE"
    rights = {name: data for name in tables if name not in _LEDGER}
    rights |= dict.fromkeys(_LEDGER, "SELECT")
    rights["ledger_outbox"] = "SELECT, INSERT"
    if role == "sequencer":
        rights["ledger_outbox"] = "SELECT, INSERT, DELETE"
        rights |= {
            "ledger_entries": "SELECT, INSERT",
            "checkpoints": "SELECT, INSERT",
            "ledger_nodes": "SELECT, INSERT",
            "ledger_places": "SELECT, INSERT",
            "ledger_head": "SELECT, INSERT, UPDATE",
            "anchors": "SELECT, INSERT",
        }
    return rights


def grant_statements(schema: str = "public") -> list[str]:
    """Return the statements, each of which may be run again.

    Roles have no password and cannot log in: logins are made by whoever runs the
    server and are given one of them.
    """
    statements = [create_role(role) for role in ROLES]
    quoted = f'"{schema}"'
    statements.append(f"REVOKE ALL ON SCHEMA {quoted} FROM PUBLIC")
    statements.append(f"REVOKE ALL ON ALL TABLES IN SCHEMA {quoted} FROM PUBLIC")
    statements.append("REVOKE ALL ON FUNCTION affidavit_refuse_change() FROM PUBLIC")
    for role in ROLES:
        name = PREFIX + role
        statements += [
            f"REVOKE ALL ON ALL TABLES IN SCHEMA {quoted} FROM {name}",
            f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {quoted} FROM {name}",
            f"GRANT USAGE ON SCHEMA {quoted} TO {name}",
        ]
        rights = rights_of(role)
        statements += [
            f"GRANT {right} ON {quoted}.{table} TO {name}"
            for table, right in sorted(rights.items())
        ]
        if rights:
            statements += [
                f"GRANT SELECT ON {quoted}.alembic_version TO {name}",
                f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {quoted} TO {name}",
            ]
    statements.append(f"GRANT CREATE ON SCHEMA {quoted} TO {PREFIX}migrator")
    statements += [
        f"ALTER TABLE {quoted}.{table} OWNER TO {PREFIX}migrator"
        for table in (*sorted(Table.metadata.tables), "alembic_version")
    ]
    statements.append(
        f"ALTER FUNCTION affidavit_refuse_change() OWNER TO {PREFIX}migrator"
    )
    return statements


def apply_grants(connection: sa.Connection) -> None:
    """The roles are there and have these rights and no other, in this transaction."""
    for statement in grant_statements():
        connection.execute(sa.text(statement))


def create_role(role: str) -> str:
    """Return the statement that makes a role, where it is not there yet."""
    name = PREFIX + role
    return (  # the name is one of ours
        "DO $$ BEGIN "  # noqa: S608
        f"IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{name}') THEN "
        f"CREATE ROLE {name} NOLOGIN; END IF; END $$"
    )

# SPDX-License-Identifier: Apache-2.0
"""Who may enter the schema of identities on PostgreSQL: the role of the keys alone.

The role owns the schema, so that it can make its tables and vacuum them. All other
roles, those of the ledger and of the data, have not even the right to look in.
"""

from typing import Final

import sqlalchemy as sa

from storage.grants import PREFIX, ROLES, create_role
from storage.identities.tables import SCHEMA, KeysTable

OWNER: Final = f"{PREFIX}keys"


def keys_statements() -> list[str]:
    """Return the statements, each of which may be run again.

    They hold for a database of its own as for one that is shared with the data: roles
    are the server's, and those that are missing are made.
    """
    tables = [f"{SCHEMA}.{name}" for name in sorted(KeysTable.metadata.tables)]
    others = [f"{PREFIX}{role}" for role in ROLES if f"{PREFIX}{role}" != OWNER]
    strangers = ", ".join(["PUBLIC", *others])
    return [
        *(create_role(role) for role in ROLES),
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
        f"ALTER SCHEMA {SCHEMA} OWNER TO {OWNER}",
        *(f"ALTER TABLE IF EXISTS {table} OWNER TO {OWNER}" for table in tables),
        f"REVOKE ALL ON SCHEMA {SCHEMA} FROM {strangers}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {SCHEMA} FROM {strangers}",
    ]


def apply_keys_grants(connection: sa.Connection) -> None:
    """Schema and tables are there, their owner's and nobody else's.

    In this transaction. A table that a login made by itself would be that login's.
    """
    there = connection.execution_options(schema_translate_map={None: SCHEMA})
    there.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    KeysTable.metadata.create_all(there)
    for statement in keys_statements():
        connection.execute(sa.text(statement))

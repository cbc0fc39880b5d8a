# SPDX-License-Identifier: Apache-2.0
"""Making the database's roles, as one recorded deed."""

import sqlalchemy as sa

from ledger.entries import Action
from storage.engine import create_engine, transaction
from storage.errors import StateConflictError
from storage.events import record
from storage.grants import ROLES, apply_grants
from storage.identities.grants import apply_keys_grants


def apply_roles(engine: sa.Engine, *, keys_url: str, actor: str) -> None:
    """The roles and their rights are there, and the ledger tells of it.

    Args:
        engine: The database.
        keys_url: Of the database of identities, which may be the same. On SQLite it
            has no roles, and is left as it is.
        actor: Who does it.

    Raises:
        StateConflictError: the database knows no roles.
    """
    if engine.dialect.name != "postgresql":
        raise StateConflictError(
            "SQLite knows no roles; whoever can read the file can write it. Roles and "
            "rights are for PostgreSQL."
        )
    with transaction(engine) as session:
        record(
            session,
            Action.GRANTS_APPLIED,
            "database",
            actor=actor,
            details={"roles": list(ROLES)},
        )
        apply_grants(session.connection())
    keys = create_engine(keys_url)
    try:
        if keys.dialect.name == "postgresql":
            with transaction(keys) as session:
                apply_keys_grants(session.connection())
    finally:
        keys.dispose()

# SPDX-License-Identifier: Apache-2.0
"""Making the database's roles, as one recorded deed."""

import sqlalchemy as sa

from ledger.entries import Action
from storage.engine import transaction
from storage.errors import StateConflictError
from storage.events import record
from storage.grants import ROLES, apply_grants


def apply_roles(engine: sa.Engine, *, actor: str) -> None:
    """The roles and their rights are there, and the ledger tells of it.

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

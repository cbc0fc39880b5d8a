# SPDX-License-Identifier: Apache-2.0
"""The random id of an installation: which deployment a database belongs to.

Deployments that share a broker by mistake would take each other's hints. The id lets
them notice; it says nothing about anybody.
"""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import epoch_now, reading, transaction
from storage.subjects import new_token
from storage.tables import InstallationTable


def installation_id(engine: sa.Engine) -> str:
    """Return the id of this database's installation, made where it has none."""
    with reading(engine) as session:
        found: str | None = session.scalar(sa.select(InstallationTable.token))
    if found is not None:
        return found
    with transaction(engine) as session:
        return name_installation(session)


def name_installation(session: Session) -> str:
    """Return the id, which is in the table from now on; of two at once one wins."""
    # Loading a dialect takes as long as a look at a run, and few get here.
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if postgres else sqlite.insert
    session.execute(
        insert(InstallationTable)
        .values(id=1, token=new_token(), created_at=epoch_now())
        .on_conflict_do_nothing()
    )
    token: str = session.scalars(sa.select(InstallationTable.token)).one()
    return token

# SPDX-License-Identifier: Apache-2.0
"""Random tokens, and the table of identities that versions before 0010 kept."""

import secrets

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.tables import SubjectTable


def new_token() -> str:
    """Return 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def plain_identities(session: Session, *, limit: int) -> list[SubjectTable]:
    """Return identities that are still in the plain table."""
    return list(session.scalars(sa.select(SubjectTable).limit(limit)))

# SPDX-License-Identifier: Apache-2.0
"""Principals and their tokens, as they are stored: names, roles and digests."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import epoch_now
from storage.errors import StateConflictError, UnknownPrincipalError
from storage.locks import Lock, hold
from storage.subjects import new_token
from storage.tables import AccessTokenTable, PrincipalTable


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """What is known of a token that somebody shows.

    Attributes:
        name: Of its principal.
        roles: Of its principal.
        scopes: The rights it is limited to; None for no limit.
        expired: Whether its time is over.
        revoked: Whether its principal is revoked.
    """

    name: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] | None
    expired: bool
    revoked: bool


def any_principal(session: Session) -> bool:
    """Return whether there is a principal that is not revoked."""
    found = session.scalar(
        sa.select(PrincipalTable.id).where(PrincipalTable.revoked_at.is_(None)).limit(1)
    )
    return found is not None


def find_token(session: Session, digest: str) -> StoredToken | None:
    """Return the token with that digest, None where there is none."""
    row = session.execute(
        sa.select(
            PrincipalTable.name,
            PrincipalTable.roles,
            PrincipalTable.revoked_at,
            AccessTokenTable.scopes,
            (AccessTokenTable.expires_at <= epoch_now()).label("expired"),
        )
        .join(PrincipalTable, PrincipalTable.id == AccessTokenTable.principal_id)
        .where(AccessTokenTable.digest == digest)
    ).one_or_none()
    if row is None:
        return None
    return StoredToken(
        name=row.name,
        roles=tuple(row.roles),
        scopes=None if row.scopes is None else tuple(row.scopes),
        expired=bool(row.expired),
        revoked=row.revoked_at is not None,
    )


def add_principal(session: Session, name: str, roles: Sequence[str]) -> str:
    """Return the id of the principal, who is there from now on.

    Raises:
        StateConflictError: the name is, or was, somebody's: the ledger names it.
    """
    hold(session, Lock.PRINCIPALS)
    taken = session.scalar(
        sa.select(PrincipalTable.id).where(PrincipalTable.name == name)
    )
    if taken is not None:
        raise StateConflictError(
            f"There is, or was, a principal '{name}', and the ledger tells of it; take "
            "another name, or give it a new token with 'affidavit principal renew'."
        )
    principal = new_token()
    session.add(
        PrincipalTable(
            id=principal,
            name=name,
            roles=list(roles),
            created_at=session.scalar(sa.select(epoch_now())) or 0.0,
        )
    )
    session.flush()
    return principal


def add_token(
    session: Session,
    principal_id: str,
    digest: str,
    *,
    scopes: Sequence[str] | None,
    days: float,
) -> float:
    """Return until when the token holds; it is its principal's only one."""
    session.execute(
        sa.delete(AccessTokenTable).where(AccessTokenTable.principal_id == principal_id)
    )
    now = session.scalar(sa.select(epoch_now())) or 0.0
    session.add(
        AccessTokenTable(
            digest=digest,
            principal_id=principal_id,
            scopes=None if scopes is None else list(scopes),
            created_at=now,
            expires_at=now + days * 86_400,
        )
    )
    session.flush()
    return now + days * 86_400


def active_principal(session: Session, name: str) -> PrincipalTable:
    """Return the principal of that name, who is not revoked.

    Raises:
        UnknownPrincipalError: there is none.
    """
    found = session.scalar(
        sa.select(PrincipalTable).where(
            PrincipalTable.name == name, PrincipalTable.revoked_at.is_(None)
        )
    )
    if found is None:
        raise UnknownPrincipalError(
            f"There is no principal '{name}'; 'affidavit principal list' shows all."
        )
    return found


def revoke_principal(session: Session, name: str, *, keeper: str) -> None:
    """The principal's tokens open nothing any more.

    Args:
        session: The caller's transaction.
        name: The principal.
        keeper: The role of which one must be left.

    Raises:
        UnknownPrincipalError: there is none of that name.
        StateConflictError: nobody would be left with the role.
    """
    hold(session, Lock.PRINCIPALS)
    found = active_principal(session, name)
    others = session.scalars(
        sa.select(PrincipalTable).where(
            PrincipalTable.revoked_at.is_(None), PrincipalTable.id != found.id
        )
    ).all()
    if keeper in found.roles and not any(keeper in row.roles for row in others):
        raise StateConflictError(
            f"'{name}' is the last {keeper}; add another one first, or nobody could "
            "let anyone in again."
        )
    found.revoked_at = session.scalar(sa.select(epoch_now()))


def list_principals(
    session: Session,
) -> list[tuple[PrincipalTable, AccessTokenTable | None]]:
    """Return all principals with their token, the oldest first."""
    rows = session.execute(
        sa.select(PrincipalTable, AccessTokenTable)
        .outerjoin(AccessTokenTable, AccessTokenTable.principal_id == PrincipalTable.id)
        .order_by(PrincipalTable.created_at, PrincipalTable.name)
    ).all()
    return [(row[0], row[1]) for row in rows]

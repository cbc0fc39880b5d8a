# SPDX-License-Identifier: Apache-2.0
"""Adding, renewing, listing and revoking principals; each is recorded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.entries import Action
from pipeline.access.authentication import (
    has_principals,
    new_access_token,
    token_digest,
)
from pipeline.access.policy import Right, Role
from pipeline.deeds import record_deed
from pipeline.errors import SpecError
from pipeline.services import Services
from pipeline.signing import seal
from storage.engine import reading, transaction
from storage.errors import StateConflictError
from storage.events import record
from storage.principals import (
    active_principal,
    add_principal,
    add_token,
    list_principals,
    revoke_principal,
)

#: Days that a token holds where nothing else is said, and at most.
TOKEN_DAYS = 90
MOST_TOKEN_DAYS = 400

_NAME = re.compile(r"[a-z][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A token that is shown once, and how long it holds."""

    name: str
    token: str
    expires_at: float


def add(
    services: Services,
    name: str,
    *,
    roles: Sequence[Role],
    scopes: Sequence[Right] | None = None,
    days: float = TOKEN_DAYS,
) -> Issued:
    """Return the token of a principal, who is there from now on.

    Raises:
        SpecError: the name or the days are not usable, or there is no role.
        StateConflictError: the name is taken, or the first one is no administrator.
    """
    if not _NAME.fullmatch(name) or name == "unknown":
        raise SpecError(
            f"'{name}' is no name of a principal; expected an account's name of small "
            "letters, digits, dots and dashes, not a person's."
        )
    if not roles:
        raise SpecError("A principal needs a role; see --role.")
    _check_days(days)
    if Role.ADMIN not in roles and not has_principals(services):
        raise StateConflictError(
            "The first principal must be an admin (--role admin), or nobody could let "
            "another one in."
        )
    token = new_access_token()
    with transaction(services.engine) as session:
        principal = add_principal(session, name, sorted(set(roles)))
        expires_at = add_token(
            session, principal, token_digest(token), scopes=_named(scopes), days=days
        )
        _record(services, session, name, roles=roles, scopes=scopes, days=days)
    seal(services)
    return Issued(name=name, token=token, expires_at=expires_at)


def renew(
    services: Services,
    name: str,
    *,
    scopes: Sequence[Right] | None = None,
    days: float = TOKEN_DAYS,
) -> Issued:
    """Return a new token of a principal, whose old one opens nothing any more.

    Raises:
        SpecError: the days are not usable.
        UnknownPrincipalError: there is no principal of that name.
    """
    _check_days(days)
    token = new_access_token()
    with transaction(services.engine) as session:
        found = active_principal(session, name)
        expires_at = add_token(
            session, found.id, token_digest(token), scopes=_named(scopes), days=days
        )
        _record(services, session, name, roles=found.roles, scopes=scopes, days=days)
    seal(services)
    return Issued(name=name, token=token, expires_at=expires_at)


def revoke(services: Services, name: str) -> None:
    """The principal can do nothing any more.

    Raises:
        StateConflictError: no administrator would be left.
        UnknownPrincipalError: there is no principal of that name.
    """
    with transaction(services.engine) as session:
        revoke_principal(session, name, keeper=Role.ADMIN)
        record(
            session,
            Action.PRINCIPAL_REVOKED,
            f"principal/{name}",
            actor=services.actor,
        )
    seal(services)


def list_all(services: Services) -> list[dict[str, Any]]:
    """Return all principals as JSON values; that they were read is recorded."""
    record_deed(services, Action.PRINCIPALS_READ, "principals")
    with reading(services.engine) as session:
        return [
            {
                "name": principal.name,
                "roles": list(principal.roles),
                "scopes": None if token is None else token.scopes,
                "created_at": principal.created_at,
                "expires_at": None if token is None else token.expires_at,
                "revoked_at": principal.revoked_at,
            }
            for principal, token in list_principals(session)
        ]


def _check_days(days: float) -> None:
    if not 0 < days <= MOST_TOKEN_DAYS:
        raise SpecError(
            f"A token holds for more than 0 and at most {MOST_TOKEN_DAYS} days."
        )


def _named(scopes: Sequence[Right] | None) -> list[str] | None:
    return None if scopes is None else sorted({scope.value for scope in scopes})


def _record(
    services: Services,
    session: Any,
    name: str,
    *,
    roles: Sequence[str],
    scopes: Sequence[Right] | None,
    days: float,
) -> None:
    record(
        session,
        Action.PRINCIPAL_ADDED,
        f"principal/{name}",
        actor=services.actor,
        details={
            "roles": sorted({str(role) for role in roles}),
            "scopes": _named(scopes),
            "hours": round(days * 24),
        },
    )

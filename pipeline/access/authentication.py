# SPDX-License-Identifier: Apache-2.0
"""Who is at work: the principal of the token, refused where the policy says no."""

import hashlib
import secrets
from contextlib import suppress
from pathlib import Path

from sqlalchemy.engine import make_url

from ledger.entries import Action
from ledger.errors import LedgerError
from pipeline.access.policy import Denial, Right, Role, denial
from pipeline.deeds import record_deed
from pipeline.errors import AccessRefusedError
from pipeline.services import Principal, Services
from storage.engine import reading
from storage.errors import SchemaOutdatedError, StorageError
from storage.principals import StoredToken, any_principal, find_token

_PREFIX = "afd_"
#: Who acts as long as no principal is known: somebody whose token is not.
_NOBODY = "principal/unknown"

_SENTENCES = {
    Denial.TOKEN_MISSING: "This installation has principals, and no token is set; put "
    "yours into AFFIDAVIT_TOKEN.",
    Denial.TOKEN_UNKNOWN: "The token in AFFIDAVIT_TOKEN is not known here; ask an "
    "administrator for one.",
    Denial.TOKEN_EXPIRED: "The token in AFFIDAVIT_TOKEN has expired; an administrator "
    "can renew it.",
    Denial.TOKEN_REVOKED: "The principal of the token in AFFIDAVIT_TOKEN is revoked; "
    "ask an administrator.",
    Denial.ROLE_LACKS_RIGHT: "No role of yours has the right '{right}'; ask somebody "
    "who has it, or an administrator.",
    Denial.SCOPE_LACKS_RIGHT: "Your token is limited and leaves out the right "
    "'{right}'; ask an administrator for another one.",
    Denial.PURPOSE_MISSING: "Say why data is looked at, with AFFIDAVIT_PURPOSE or "
    "'affidavit --purpose ...'.",
    Denial.OWN_REQUEST: "Nobody decides about a request of their own; ask a second "
    "principal.",
    Denial.OWN_RUN: "Nobody signs off a run that they made; ask another reviewer.",
}


def new_access_token() -> str:
    """Return a token of 256 random bits, to be shown once."""
    return _PREFIX + secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def has_principals(services: Services) -> bool:
    """Return whether the installation has principals; looking makes no database."""
    url = services.settings.resolved_database_url
    if url.startswith("sqlite:"):
        path = make_url(url).database
        if path and not Path(path).exists():
            return False
    try:
        with reading(services.engine) as session:
            return any_principal(session)
    except SchemaOutdatedError:
        # Tables of an earlier version, or none: there cannot be any yet.
        return False


def admitted(services: Services, right: Right) -> Services:
    """Return the services as those of who is at work, who has the right.

    Without principals there is a single operator, who has all.

    Raises:
        AccessRefusedError: the right is refused, which the ledger tells of.
        StorageError: nobody can be asked.
    """
    purpose = services.settings.purpose
    services = services.acting(purpose=purpose)
    if not has_principals(services):
        return services
    token = services.settings.token
    # Compose files and manifests set what is not there as nothing.
    if token is None or not token.get_secret_value():
        raise refused(services, right, Denial.TOKEN_MISSING)
    with reading(services.engine) as session:
        found = find_token(session, token_digest(token.get_secret_value()))
    if found is None:
        raise refused(services, right, Denial.TOKEN_UNKNOWN)
    principal = _principal(found)
    known = services.acting(
        actor=f"principal/{principal.name}", principal=principal, purpose=purpose
    )
    why = _why_not(known, found, right)
    if why is not None:
        raise refused(known, right, why)
    return known


def _why_not(services: Services, found: StoredToken, right: Right) -> Denial | None:
    if found.revoked:
        return Denial.TOKEN_REVOKED
    if found.expired:
        return Denial.TOKEN_EXPIRED
    principal = _principal(found)
    return denial(
        right,
        roles=principal.roles,
        scopes=principal.scopes,
        purpose=services.purpose,
    )


def _principal(found: StoredToken) -> Principal:
    """Return the principal; roles and rights of other versions count for nothing."""
    roles = {role.value: role for role in Role}
    rights = {right.value: right for right in Right}
    scopes = found.scopes
    return Principal(
        name=found.name,
        roles=frozenset(roles[name] for name in found.roles if name in roles),
        scopes=None
        if scopes is None
        else frozenset(rights[name] for name in scopes if name in rights),
    )


def require_right(services: Services, right: Right) -> None:
    """Nothing happens if who is at work has this right too.

    Raises:
        AccessRefusedError: it is refused, which the ledger tells of.
    """
    principal = services.principal
    if principal is None:
        return
    why = denial(
        right,
        roles=principal.roles,
        scopes=principal.scopes,
        purpose=services.purpose,
    )
    if why is not None:
        raise refused(services, right, why)


def refused(services: Services, right: Right, why: Denial) -> AccessRefusedError:
    """Return the error to raise; the ledger tells who was refused what, and why."""
    if services.principal is None:
        services = services.acting(actor=_NOBODY)
    # The refusal stands, whatever becomes of its entry.
    with suppress(StorageError, LedgerError, OSError):
        record_deed(
            services,
            Action.ACCESS_REFUSED,
            "access",
            details={"right": right.value, "reason": why.value},
        )
    return AccessRefusedError(_SENTENCES[why].format(right=right.value))

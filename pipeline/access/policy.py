# SPDX-License-Identifier: Apache-2.0
"""Which role has which right, and what each right asks for: the whole policy.

Nothing else in the program compares roles. A principal may do what any of its roles
may, and where its token has scopes, only what these name.
"""

from collections.abc import Collection
from enum import StrEnum


class Role(StrEnum):
    """What a principal is here for."""

    SUBMITTER = "submitter"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    DPO = "dpo"
    ADMIN = "admin"


class Right(StrEnum):
    """What can be done; each command needs one."""

    #: See which runs, schedules and workers there are and how far they are.
    LOOK = "look"
    #: Make, stop and resume runs and schedules, and fit thresholds.
    SUBMIT = "submit"
    #: See results, items and reports.
    READ_RESULTS = "read_results"
    #: Take results away as tables.
    EXPORT_RESULTS = "export_results"
    #: Take evidence away.
    EXPORT_EVIDENCE = "export_evidence"
    #: Check evidence.
    VERIFY = "verify"
    #: Compute parts of a run again.
    REVERIFY = "reverify"
    #: Say of a report whether it is accepted.
    SIGN_OFF = "sign_off"
    #: Keep the installation running: workers, database, store.
    OPERATE = "operate"
    #: Add and revoke principals.
    MANAGE_ACCESS = "manage_access"
    #: See what waits for the word of a second principal.
    LIST_REQUESTS = "list_requests"
    #: Give or refuse that word.
    DECIDE_THRESHOLD = "decide_threshold"
    DECIDE_ERASURE = "decide_erasure"
    DECIDE_RETENTION = "decide_retention"
    #: Find, report, hold and erase subjects.
    SUBJECTS = "subjects"
    #: Change how long a run is kept.
    RETENTION = "retention"
    #: Delete what is past its time.
    PURGE = "purge"
    #: Produce the processing register and the inputs of a DPIA.
    REGISTER = "register"
    #: Record incidents and ask whom they affect.
    INCIDENTS = "incidents"


class Purpose(StrEnum):
    """Why data is looked at; a closed list, so that nobody writes about persons."""

    TREATMENT = "treatment"
    PAYMENT = "payment"
    OPERATIONS = "operations"
    RESEARCH = "research"
    PUBLIC_HEALTH = "public_health"
    MODEL_VALIDATION = "model_validation"
    AUDIT = "audit"
    LEGAL = "legal"
    SUBJECT_REQUEST = "subject_request"
    INCIDENT = "incident"


class Denial(StrEnum):
    """Why somebody was refused, as the ledger tells it."""

    TOKEN_MISSING = "token_missing"  # noqa: S105 - a code
    TOKEN_UNKNOWN = "token_unknown"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    ROLE_LACKS_RIGHT = "role_lacks_right"
    SCOPE_LACKS_RIGHT = "scope_lacks_right"
    PURPOSE_MISSING = "purpose_missing"
    OWN_REQUEST = "own_request"
    OWN_RUN = "own_run"


#: Least privilege: an administrator sees no results, a submitter no identities.
RIGHTS: dict[Role, frozenset[Right]] = {
    Role.SUBMITTER: frozenset({Right.LOOK, Right.SUBMIT, Right.LIST_REQUESTS}),
    Role.REVIEWER: frozenset(
        {
            Right.LOOK,
            Right.READ_RESULTS,
            Right.EXPORT_RESULTS,
            Right.VERIFY,
            Right.REVERIFY,
            Right.SIGN_OFF,
            Right.LIST_REQUESTS,
            Right.DECIDE_THRESHOLD,
        }
    ),
    Role.AUDITOR: frozenset(
        {
            Right.LOOK,
            Right.VERIFY,
            Right.REVERIFY,
            Right.EXPORT_EVIDENCE,
            Right.REGISTER,
        }
    ),
    Role.DPO: frozenset(
        {
            Right.LOOK,
            Right.VERIFY,
            Right.LIST_REQUESTS,
            Right.DECIDE_ERASURE,
            Right.DECIDE_RETENTION,
            Right.SUBJECTS,
            Right.RETENTION,
            Right.PURGE,
            Right.REGISTER,
            Right.INCIDENTS,
        }
    ),
    Role.ADMIN: frozenset(
        {
            Right.LOOK,
            Right.OPERATE,
            Right.MANAGE_ACCESS,
            Right.LIST_REQUESTS,
            Right.DECIDE_ERASURE,
            Right.DECIDE_RETENTION,
        }
    ),
}

#: Rights by which data is shown: whoever uses them says why.
NEEDS_PURPOSE = frozenset(
    {
        Right.READ_RESULTS,
        Right.EXPORT_RESULTS,
        Right.EXPORT_EVIDENCE,
        Right.SUBJECTS,
        Right.INCIDENTS,
    }
)


class RequestKind(StrEnum):
    """What needs the word of a second principal."""

    THRESHOLD = "threshold"
    ERASURE = "erasure"
    RETENTION = "retention"


#: The right that the second principal needs.
DECIDES: dict[RequestKind, Right] = {
    RequestKind.THRESHOLD: Right.DECIDE_THRESHOLD,
    RequestKind.ERASURE: Right.DECIDE_ERASURE,
    RequestKind.RETENTION: Right.DECIDE_RETENTION,
}


def rights_of(roles: Collection[Role]) -> frozenset[Right]:
    """Return what the roles may do together."""
    return frozenset().union(*(RIGHTS[role] for role in roles))


def denial(
    right: Right,
    *,
    roles: Collection[Role],
    scopes: Collection[Right] | None,
    purpose: Purpose | None,
) -> Denial | None:
    """Return why the right is refused, None where it is granted.

    Args:
        right: What is asked for.
        roles: Those of the principal.
        scopes: What the token is limited to; None for all that the roles may.
        purpose: Why data is looked at.
    """
    if right not in rights_of(roles):
        return Denial.ROLE_LACKS_RIGHT
    if scopes is not None and right not in scopes:
        return Denial.SCOPE_LACKS_RIGHT
    if right in NEEDS_PURPOSE and purpose is None:
        return Denial.PURPOSE_MISSING
    return None


def may_decide(requested_by: str, decided_by: str) -> bool:
    """Return whether the second pair of eyes is another one than the first."""
    return requested_by != decided_by

# SPDX-License-Identifier: Apache-2.0
"""Four eyes: what concerns others is done once a second principal has agreed.

A single operator has nobody to ask: without principals nothing waits.
"""

from typing import Any

import sqlalchemy as sa

from ledger.entries import Action
from pipeline.access.authentication import refused, require_right
from pipeline.access.policy import DECIDES, Denial, RequestKind, may_decide
from pipeline.deeds import record_deed
from pipeline.digests import document_digest
from pipeline.errors import AccessRefusedError
from pipeline.services import Services
from pipeline.signing import seal
from storage.change_requests import decide, get_request, list_requests, open_request
from storage.engine import reading, transaction
from storage.events import record
from storage.privacy_states import RequestState
from storage.tables import ChangeRequestTable


def require_second_word(
    services: Services, kind: RequestKind, obj: str, change: dict[str, Any]
) -> None:
    """Nothing happens if a second principal has agreed to exactly this change.

    The word is used up: the same change needs another one the next time.

    Args:
        services: Who is at work.
        kind: What kind of change it is.
        obj: What is changed, as the ledger names it.
        change: What exactly is asked for; of it only the digest is kept.

    Raises:
        AccessRefusedError: nobody has yet; the request waits from now on.
    """
    if services.principal is None:
        return
    digest = document_digest({"object": obj, "change": change})
    with transaction(services.engine) as session:
        request, is_new = open_request(
            session, kind.value, obj, digest, requested_by=services.actor
        )
        agreed = request.state == RequestState.APPROVED
        if agreed:
            request.state = RequestState.USED
        if agreed or is_new:
            record(
                session,
                Action.REQUEST_USED if agreed else Action.REQUEST_MADE,
                f"request/{request.id}",
                actor=services.actor,
                digest=digest,
                details={"kind": kind.value, "of": obj},
            )
    seal(services)
    if not agreed:
        raise AccessRefusedError(
            f"This change of {kind.value} needs the word of a second principal; ask "
            f"for 'affidavit request approve {request.id}', then do it again."
        )


def give_word(
    services: Services, request_id: str, *, agree: bool
) -> ChangeRequestTable:
    """Return the request, which is approved or refused from now on.

    Raises:
        AccessRefusedError: who is at work made it, or may not decide about its kind.
        StateConflictError: the word was given before.
        UnknownRequestError: there is no such request.
    """
    with reading(services.engine) as session:
        found = get_request(session, request_id)
    right = DECIDES[RequestKind(found.kind)]
    require_right(services, right)
    if not may_decide(found.requested_by, services.actor):
        raise refused(services, right, Denial.OWN_REQUEST)
    with transaction(services.engine) as session:
        request = get_request(session, request_id)
        state = RequestState.APPROVED if agree else RequestState.REFUSED
        decide(session, request, state, decided_by=services.actor)
        record(
            session,
            Action.REQUEST_APPROVED if agree else Action.REQUEST_REFUSED,
            f"request/{request.id}",
            actor=services.actor,
            digest=request.digest,
            details={"kind": request.kind, "of": request.object},
        )
    seal(services)
    return request


def read_requests(services: Services) -> list[ChangeRequestTable]:
    """Return all requests; that they were read is recorded."""
    record_deed(services, Action.REQUESTS_READ, "requests")
    with reading(services.engine) as session:
        return list_requests(session)


def approvals_of(services: Services, obj: str) -> list[ChangeRequestTable]:
    """Return the changes of an object that somebody agreed to, the oldest first."""
    with reading(services.engine) as session:
        return list(
            session.scalars(
                sa.select(ChangeRequestTable)
                .where(
                    ChangeRequestTable.object == obj,
                    ChangeRequestTable.state.in_(
                        (RequestState.APPROVED, RequestState.USED)
                    ),
                )
                .order_by(ChangeRequestTable.created_at)
            )
        )

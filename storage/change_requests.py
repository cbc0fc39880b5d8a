# SPDX-License-Identifier: Apache-2.0
"""Changes that wait for the word of a second principal."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import epoch_now
from storage.errors import StateConflictError, UnknownRequestError
from storage.privacy_states import RequestState
from storage.subjects import new_token
from storage.tables import ChangeRequestTable

_OPEN = (RequestState.WAITING, RequestState.APPROVED)


def open_request(
    session: Session, kind: str, obj: str, digest: str, *, requested_by: str
) -> tuple[ChangeRequestTable, bool]:
    """Return the open request for exactly this change, and whether it is new.

    Only the one who asked may use the word that was given: else two principals could
    each count as the other's second.
    """
    found = session.scalars(
        sa.select(ChangeRequestTable)
        .where(
            ChangeRequestTable.kind == kind,
            ChangeRequestTable.digest == digest,
            ChangeRequestTable.requested_by == requested_by,
            ChangeRequestTable.state.in_(_OPEN),
        )
        .order_by(ChangeRequestTable.created_at)
    ).first()
    if found is not None:
        return found, False
    made = ChangeRequestTable(
        id=new_token()[:12],
        kind=kind,
        object=obj,
        digest=digest,
        state=RequestState.WAITING,
        requested_by=requested_by,
        created_at=session.scalar(sa.select(epoch_now())) or 0.0,
    )
    session.add(made)
    session.flush()
    return made, True


def get_request(session: Session, request_id: str) -> ChangeRequestTable:
    """Return the request, locked until the caller's transaction ends.

    Raises:
        UnknownRequestError: there is none with that id.
    """
    found = session.scalar(
        sa.select(ChangeRequestTable)
        .where(ChangeRequestTable.id == request_id)
        .with_for_update()
    )
    if found is None:
        raise UnknownRequestError(
            f"No request has the id '{request_id}'; 'affidavit request list' shows all."
        )
    return found


def decide(
    session: Session,
    request: ChangeRequestTable,
    state: RequestState,
    *,
    decided_by: str,
) -> None:
    """The word is given, or refused.

    Raises:
        StateConflictError: it was before.
    """
    if request.state != RequestState.WAITING:
        raise StateConflictError(
            f"The request {request.id} is {request.state} and waits for no word."
        )
    request.state = state
    request.decided_by = decided_by
    request.decided_at = session.scalar(sa.select(epoch_now()))


def list_requests(session: Session) -> list[ChangeRequestTable]:
    """Return all requests, the newest first."""
    return list(
        session.scalars(
            sa.select(ChangeRequestTable).order_by(
                ChangeRequestTable.created_at.desc(), ChangeRequestTable.id
            )
        )
    )

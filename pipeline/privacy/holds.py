# SPDX-License-Identifier: Apache-2.0
"""Legal holds: of what is held nothing is erased or purged; each is recorded."""

from ledger.entries import Action
from pipeline.services import Services
from pipeline.signing import seal
from storage.engine import transaction
from storage.erasures import place_hold, release_holds
from storage.events import record
from storage.privacy_states import HoldReason
from storage.tables import LegalHoldTable


def hold_object(services: Services, obj: str, reason: HoldReason) -> LegalHoldTable:
    """Return the hold on `subject/<token>` or `run/<id>`, from now on in force.

    Raises:
        StateConflictError: it is held already.
    """
    with transaction(services.engine) as session:
        made = place_hold(session, obj, reason, placed_by=services.actor)
        record(
            session,
            Action.SUBJECT_HELD,
            obj,
            actor=services.actor,
            details={"hold": made.id, "reason": reason.value},
        )
    seal(services)
    return made


def release(services: Services, obj: str) -> list[LegalHoldTable]:
    """Return the holds on the object, which are released.

    Raises:
        StateConflictError: there is none.
    """
    with transaction(services.engine) as session:
        found = release_holds(session, obj)
        for one in found:
            record(
                session,
                Action.HOLD_RELEASED,
                obj,
                actor=services.actor,
                details={"hold": one.id},
            )
    seal(services)
    return found

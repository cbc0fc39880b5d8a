# SPDX-License-Identifier: Apache-2.0
"""Entries about what people do: read, take away, check. Recorded first, then done.

Whoever stops a command half-way must not have got anything that the ledger does not
tell of; an entry about something that failed afterwards does no harm.
"""

from collections.abc import Mapping

from ledger.entries import Action, Detail
from pipeline.services import Services
from pipeline.signing import seal
from storage.engine import transaction
from storage.events import record


def record_deed(
    services: Services,
    action: Action,
    obj: str,
    *,
    digest: str | None = None,
    details: Mapping[str, Detail] | None = None,
) -> None:
    """The ledger tells of the deed, under a signature where the key is at hand.

    Where somebody said why data is looked at, the entry says so too.

    Raises:
        storage.errors.StorageError: it could not be recorded.
        ledger.errors.BrokenLedgerError: it is recorded, but the ledger does not go on
            from what was signed last.
        ledger.errors.KeyFileError: it is recorded, but the key cannot be used.
    """
    said = dict(details or {})
    if services.purpose is not None:
        said["purpose"] = services.purpose.value
    with transaction(services.engine) as session:
        record(
            session,
            action,
            obj,
            actor=services.actor,
            digest=digest,
            details=said,
        )
    seal(services)

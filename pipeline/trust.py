# SPDX-License-Identifier: Apache-2.0
"""Decisions about trust in a model, as the ledger tells of them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ledger.entries import Action
from ledger.errors import LedgerError
from pipeline.deeds import record_deed
from pipeline.errors import ModelRefusedError
from pipeline.models.loading import foreign_code
from pipeline.services import Services
from pipeline.signing import open_signing_key
from storage.errors import StorageError
from storage.schema import ensure_embedded_schema


@contextmanager
def trust_recorded(
    services: Services, source: str, obj: str = "model", *, embedded: bool = False
) -> Iterator[None]:
    """Code that an administrator allowed is recorded before the block, refusals after.

    Args:
        services: The database; a SQLite file that is not there yet is made.
        source: The spec's `model.source`.
        obj: What the entries are about.
        embedded: Whether this process signs, and so makes the key where there is none.

    Raises:
        StorageError: allowed code could not be recorded, so it must not run.
    """
    code = foreign_code(source) if services.settings.plugins else None
    if code is not None:
        _open_ledger(services, embedded=embedded)
        record_deed(
            services,
            Action.CODE_ALLOWED,
            obj,
            details={"source": source, "code": code},
        )
    try:
        yield
    except ModelRefusedError as exc:
        # The refusal stands, whatever becomes of its entry.
        with suppress(StorageError, LedgerError, OSError):
            _open_ledger(services, embedded=embedded)
            record_deed(
                services,
                Action.MODEL_REFUSED,
                obj,
                digest=exc.sha256,
                details={"source": source, "reason": exc.code.value},
            )
        raise


def _open_ledger(services: Services, *, embedded: bool) -> None:
    """There is a ledger to write to, and where this process signs, a key."""
    ensure_embedded_schema(
        services.settings.resolved_database_url, actor=services.actor
    )
    if embedded:
        open_signing_key(services)

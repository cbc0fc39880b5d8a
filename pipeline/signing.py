# SPDX-License-Identifier: Apache-2.0
"""The signing key of the ledger, for the one process that may hold it."""

from ledger.checkpoint import Checkpoint, SigningKey, open_note
from ledger.entries import Action
from ledger.errors import FormatError, SignatureError
from ledger.key_file import load_or_create, load_signing_key, save_verifier
from pipeline.key_swap import finish_rotation
from pipeline.local_key import VERIFIER_SUFFIX, head_file
from pipeline.services import Services
from storage.engine import transaction
from storage.events import record
from storage.ledger_signing import unsigned_for, write_checkpoint
from storage.ledger_writer import latest_checkpoint


def open_signing_key(services: Services) -> SigningKey:
    """Return the ledger's signing key, made (0600) and recorded at its first use.

    Raises:
        ledger.errors.KeyFileError: the file is exposed, unreadable or no key.
        storage.errors.StorageError: a new key could not be recorded.
    """
    settings = services.settings
    path = settings.resolved_signing_key
    path.parent.mkdir(parents=True, exist_ok=True)
    finish_rotation(settings)
    key = load_or_create(path, settings.ledger_origin)
    public = path.with_name(path.name + VERIFIER_SUFFIX)
    if not public.exists():
        # The public half comes last: where it is missing, the record may be, too.
        if not head_file(settings).exists():
            _record_new_key(services, key)
        save_verifier(public, key.verifier)
    return key


def _record_new_key(services: Services, key: SigningKey) -> None:
    """The ledger says that this key signs from now on."""
    with transaction(services.engine) as session:
        record(
            session,
            Action.KEY_CREATED,
            "ledger",
            actor=services.actor,
            details={"vkey": str(key.verifier)},
        )


def write_signed_checkpoint(
    services: Services, key: SigningKey, *, anchor_now: bool = False
) -> Checkpoint:
    """Everything recorded so far is in the ledger and under a signed checkpoint.

    Where an anchor is due, the checkpoint is copied there, and the tiles are published
    where they are wanted. A place that cannot be reached stops nobody: the next
    signature tries again, `verify` and `doctor` tell.

    Args:
        services: Database and settings.
        key: The ledger's key.
        anchor_now: Whether an anchor is due in any case.

    Raises:
        ledger.errors.BrokenLedgerError: the ledger does not go on from what was
            signed last; nothing is signed.
    """
    settings = services.settings
    checkpoint = write_checkpoint(
        services.engine, key, settings.ledger_origin, head_file(settings)
    )
    if settings.anchor_urls:
        # Only who has anchors pays for the import.
        from pipeline.anchoring import anchor_ledger  # noqa: PLC0415

        anchor_ledger(services, at_once=anchor_now)
    if settings.tiles:
        from pipeline.tile_publishing import publish_when_due  # noqa: PLC0415

        publish_when_due(services, at_once=anchor_now)
    return checkpoint


def seal(services: Services) -> None:
    """What was recorded so far is signed, where this installation holds the key.

    Elsewhere the control worker does it in its next round. A key that is here but has
    never signed this ledger, which another one signs, is not its key.

    Raises:
        ledger.errors.BrokenLedgerError: the ledger does not go on from what was
            signed last; nothing is signed.
        ledger.errors.KeyFileError: the key is exposed or unreadable.
    """
    settings = services.settings
    path = settings.resolved_signing_key
    if not path.exists() or unsigned_for(services.engine) is None:
        return
    finish_rotation(settings)
    key = load_signing_key(path, settings.ledger_origin)
    if head_file(settings).exists() or _may_begin(services, key):
        write_signed_checkpoint(services, key)


def _may_begin(services: Services, key: SigningKey) -> bool:
    """Whether nobody has signed the ledger yet, or this key was the last to do so."""
    newest = latest_checkpoint(services.engine)
    if newest is None:
        return True
    try:
        open_note(newest, key.verifier)
    except (FormatError, SignatureError):
        return False
    return True

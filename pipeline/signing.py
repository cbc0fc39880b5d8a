# SPDX-License-Identifier: Apache-2.0
"""The signing key of the ledger, for the one process that may hold it."""

from ledger.checkpoint import Checkpoint, SigningKey
from ledger.entries import Action
from ledger.key_file import load_or_create, save_verifier
from pipeline.local_key import VERIFIER_SUFFIX
from pipeline.services import Services
from storage.engine import transaction
from storage.events import record
from storage.ledger_writer import write_checkpoint


def open_signing_key(services: Services) -> SigningKey:
    """Return the ledger's signing key, made (0600) at its first use.

    Raises:
        ledger.errors.KeyFileError: the file is exposed, unreadable or no key.
    """
    path = services.settings.resolved_signing_key
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    key = load_or_create(path, services.settings.ledger_origin)
    public = path.with_name(path.name + VERIFIER_SUFFIX)
    if is_new or not public.exists():
        save_verifier(public, key.verifier)
    return key


def record_new_key(services: Services, key: SigningKey) -> None:
    """The ledger says that this key signs from now on."""
    with transaction(services.engine) as session:
        record(
            session,
            Action.KEY_CREATED,
            "ledger",
            actor=services.actor,
            details={"vkey": str(key.verifier)},
        )


def write_signed_checkpoint(services: Services, key: SigningKey) -> Checkpoint:
    """Everything recorded so far is in the ledger and under a signed checkpoint."""
    return write_checkpoint(services.engine, key, services.settings.ledger_origin)

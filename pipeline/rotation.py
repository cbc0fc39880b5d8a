# SPDX-License-Identifier: Apache-2.0
"""Key rotation: the old key signs the new one, and then signs no more."""

from ledger.checkpoint import SigningKey, VerifierKey
from ledger.entries import Action
from ledger.key_file import load_signing_key, save_new_key
from ledger.succession import link_details
from pipeline.key_swap import finish_rotation, next_key_file
from pipeline.local_key import head_file
from pipeline.services import Services
from pipeline.signing import open_signing_key, write_signed_checkpoint
from storage.engine import transaction
from storage.events import record
from storage.ledger_signing import write_checkpoint


def rotate_key(services: Services) -> tuple[VerifierKey, VerifierKey]:
    """Return the old and the new public key; the new one signs from now on.

    Everything up to here is signed by the old key. Then the entry by which it hands
    over, then a checkpoint of the new key. A rotation that was broken off is gone on
    with: the next key stays the one that the ledger may already name.

    Raises:
        ledger.errors.KeyFileError: a key file cannot be used.
        ledger.errors.BrokenLedgerError: the ledger does not go on from what was
            signed last; the old key stays.
    """
    settings = services.settings
    old = open_signing_key(services)
    following = next_key_file(settings)
    fresh = not following.exists()
    if fresh:
        write_signed_checkpoint(services, old)
        save_new_key(following, SigningKey.generate(settings.ledger_origin))
    new = load_signing_key(following, settings.ledger_origin)
    with transaction(services.engine) as session:
        record(
            session,
            Action.KEY_ROTATED,
            "ledger",
            actor=services.actor,
            details=link_details(old, new),
        )
    write_checkpoint(
        services.engine,
        new,
        settings.ledger_origin,
        head_file(settings),
        previous=old.verifier,
    )
    finish_rotation(settings)
    write_signed_checkpoint(services, new, anchor_now=True)
    return old.verifier, new.verifier

# SPDX-License-Identifier: Apache-2.0
"""What lies beside the signing key: its public half and the head it signed last."""

from pathlib import Path

from ledger.checkpoint import VerifierKey
from ledger.key_file import load_signing_key, load_verifier
from pipeline.settings import Settings

#: The public half lies beside the key, to be handed to whoever verifies.
VERIFIER_SUFFIX = ".pub"
#: Up to where the key has vouched, out of the database's reach.
HEAD_SUFFIX = ".head"


def local_verifier(settings: Settings) -> VerifierKey | None:
    """Return the public key of this installation, None where there is none.

    Without its public half the signing key itself says it.

    Raises:
        KeyFileError: a key file is there but cannot be used.
    """
    private = settings.resolved_signing_key
    public = private.with_name(private.name + VERIFIER_SUFFIX)
    if public.is_file():
        return load_verifier(public)
    return load_signing_key(private).verifier if private.is_file() else None


def head_file(settings: Settings) -> Path:
    """Return where the signer remembers the head that it signed last."""
    private = settings.resolved_signing_key
    return private.with_name(private.name + HEAD_SUFFIX)

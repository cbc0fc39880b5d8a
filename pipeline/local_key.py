# SPDX-License-Identifier: Apache-2.0
"""The ledger's public key as it lies beside the signing key."""

from ledger.checkpoint import VerifierKey
from ledger.key_file import load_verifier
from pipeline.settings import Settings

#: The public half lies beside the key, to be handed to whoever verifies.
VERIFIER_SUFFIX = ".pub"


def local_verifier(settings: Settings) -> VerifierKey | None:
    """Return the public key of this installation, None where there is none."""
    private = settings.resolved_signing_key
    public = private.with_name(private.name + VERIFIER_SUFFIX)
    return load_verifier(public) if public.is_file() else None

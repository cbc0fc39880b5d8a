# SPDX-License-Identifier: Apache-2.0
"""Putting a new signing key in the place of the old one, at whatever point it stopped.

The next key lies beside the old one until the ledger says that it signs, and its first
checkpoint is remembered. Whoever opens the key after that ends the exchange.
"""

from pathlib import Path
from typing import Final

from ledger.errors import BrokenLedgerError
from ledger.head_file import load_head
from ledger.key_file import load_signing_key, save_verifier, sync_folder
from pipeline.local_key import VERIFIER_SUFFIX, head_file
from pipeline.settings import Settings

NEXT_SUFFIX: Final = ".next"


def next_key_file(settings: Settings) -> Path:
    """Return where the next key lies until the old one has handed over."""
    path = settings.resolved_signing_key
    return path.with_name(path.name + NEXT_SUFFIX)


def finish_rotation(settings: Settings) -> None:
    """The next key is the key, if it has signed already; the old secret is gone.

    Raises:
        ledger.errors.KeyFileError: a key file cannot be used.
    """
    following = next_key_file(settings)
    if not following.exists():
        return
    path = settings.resolved_signing_key
    key = load_signing_key(following, settings.ledger_origin)
    try:
        head = load_head(head_file(settings), key.verifier)
    except BrokenLedgerError:
        return  # the old key's: it has not handed over yet
    if head is None:
        return
    public = path.with_name(path.name + VERIFIER_SUFFIX)
    if public.exists():
        # Whoever holds evidence of before may ask for the public half of that time.
        kept = public.read_text(encoding="utf-8")
        old = kept.split("+")[1][:8] if kept.count("+") >= 2 else "old"
        path.with_name(f"{path.name}.{old}{VERIFIER_SUFFIX}").write_text(
            kept, encoding="utf-8"
        )
    following.replace(path)
    sync_folder(path.parent)
    save_verifier(public, key.verifier)

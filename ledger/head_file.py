# SPDX-License-Identifier: Apache-2.0
"""The last head that a key has signed, in a file beside the key.

Whoever can write the database can rewrite its entries and every word that it says of
them. A signer that went by the database alone would vouch for that. So it remembers
here, out of the database's reach, up to where it has vouched, with the tree's frontier
at that place: what it signs next must go on from there.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.checkpoint import Checkpoint, VerifierKey, open_note, read_unverified
from ledger.errors import BrokenLedgerError, FormatError, KeyFileError, SignatureError
from ledger.key_file import sync_folder
from ledger.merkle import CompactRange

SCHEMA: Final = "affidavit.head/1"

_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A signed note and the compact range whose root it states."""

    note: str
    frontier: tuple[bytes, ...]

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note states."""
        return read_unverified(self.note)

    def tree(self) -> CompactRange:
        """Return the signed part of the tree, ready to be gone on with.

        Raises:
            FormatError: the frontier does not give the root that was signed.
        """
        checkpoint = self.checkpoint
        tree = CompactRange(checkpoint.size, self.frontier)
        if tree.root() != checkpoint.root:
            raise FormatError("the frontier does not give the root that was signed")
        return tree


def load_head(path: Path, key: VerifierKey) -> SignedHead | None:
    """Return the head that the key signed last, None before the first.

    Raises:
        BrokenLedgerError: the file was altered, or is of another key.
        KeyFileError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise KeyFileError(
            f"The file {path} of the last signed head cannot be read "
            f"({exc.strerror}); check its permissions."
        ) from exc
    try:
        head = _parsed(data)
        open_note(head.note, key)
        head.tree()
    except (
        FormatError,
        SignatureError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as exc:
        raise BrokenLedgerError(
            f"The file {path} is not a head that the key beside it has signed; restore "
            "it, or move it away if the key was exchanged on purpose."
        ) from exc
    return head


def _parsed(data: bytes) -> SignedHead:
    fields = json.loads(data)
    if fields["schema"] != SCHEMA:
        raise FormatError(f"its schema is not {SCHEMA}")
    frontier = tuple(bytes.fromhex(part) for part in fields["frontier"])
    return SignedHead(fields["note"], frontier)


def save_head(path: Path, head: SignedHead) -> None:
    """The file holds this head, readable by its owner alone, also after a power cut.

    Raises:
        KeyFileError: the file cannot be written; the old one is as it was.
    """
    fields = {
        "schema": SCHEMA,
        "note": head.note,
        "frontier": [part.hex() for part in head.frontier],
    }
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(draft, flags, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(fields, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as exc:
        raise KeyFileError(
            f"The file {path} of the last signed head cannot be written "
            f"({exc.strerror}); nothing was signed."
        ) from exc

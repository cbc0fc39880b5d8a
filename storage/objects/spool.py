# SPDX-License-Identifier: Apache-2.0
"""A private copy of a stream whose digest is known before anyone else sees a byte."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from storage.objects.errors import DigestMismatchError

_CHUNK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 32 << 20


def copy_hashed(source: BinaryIO, target: BinaryIO) -> tuple[str, int]:
    """Copy the rest of `source`; return its SHA-256 and its length in bytes."""
    digest = hashlib.sha256()
    size_bytes = 0
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
        size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def digest_of(source: BinaryIO) -> str:
    """Return the SHA-256 of the rest of `source`, read in pieces."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def require_digest(key: str, *, expected: str, got: str) -> None:
    """Return only if the digests are equal.

    Raises:
        DigestMismatchError: they differ.
    """
    if got != expected:
        raise DigestMismatchError(
            f"object {key!r} should hash to SHA-256 {expected} but hashes to {got}: "
            "nothing was stored; write it again from its source"
        )


@contextmanager
def spooled() -> Iterator[BinaryIO]:
    """Lend an empty seekable file: in memory while small, else on the disk."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as file:
        yield cast("BinaryIO", file)

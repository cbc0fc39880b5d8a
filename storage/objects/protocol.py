# SPDX-License-Identifier: Apache-2.0
"""The object store as the rest of the code sees it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store knows about one object without reading it.

    Attributes:
        key: the name under which it lies.
        size_bytes: its length.
        sha256: lower-case hexadecimal, or None where the store keeps no digest (a
            folder does not, and some S3 servers forget it when they restart).
        modified_at: when it was stored, in seconds since the epoch.
    """

    key: str
    size_bytes: int
    sha256: str | None
    modified_at: float


class ObjectStore(Protocol):
    """A place for artifacts: written once, whole or not at all, safe in threads."""

    def put(self, key: str, data: BinaryIO, *, sha256: str) -> ObjectInfo:
        """The key holds exactly these bytes, from the current position to the end.

        Storing the same content again is fine, also by several writers at once. A
        reader sees no object or the whole object, never a part.

        Raises:
            DigestMismatchError: the bytes hash to something else.
            ObjectExistsError: the key holds other content.
        """
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A seekable handle on the whole object, closed at the end of the block.

        Raises:
            ObjectNotFoundError: nothing lies under the key.
        """
        ...

    def stat(self, key: str) -> ObjectInfo:
        """What is known about the object.

        Raises:
            ObjectNotFoundError: nothing lies under the key.
        """
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key that starts with `prefix`, in the order of its UTF-8 bytes.

        The prefix is text, not a folder: `runs/1` also finds `runs/12/a`.
        """
        ...

    def delete(self, key: str) -> None:
        """Nothing lies under the key any more; a missing object is no error.

        For erasure, retention and orphans only: nothing else removes evidence.
        """
        ...

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Every half-written object that its writer may have left behind.

        Their keys are names for `delete_leftover` alone. A writer at work has one too.
        """
        ...

    def delete_leftover(self, key: str) -> None:
        """The half-written object is gone; a missing one is no error."""
        ...

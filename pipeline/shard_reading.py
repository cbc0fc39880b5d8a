# SPDX-License-Identifier: Apache-2.0
"""Artifacts as seekable streams, whichever store they lie in."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from storage.objects.protocol import ObjectStore

#: Artifacts up to this size are read in memory.
_IN_MEMORY_BYTES = 32_000_000


@contextmanager
def open_artifact(store: ObjectStore, key: str) -> Iterator[BinaryIO]:
    """A seekable copy of the object: Parquet keeps its index at the end."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as copy:
        with store.open(key) as stream:
            shutil.copyfileobj(stream, copy)
        copy.seek(0)
        yield cast("BinaryIO", copy)


def sha256_of(stream: BinaryIO) -> str:
    """Return the hex SHA-256 of what is left of a stream."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()

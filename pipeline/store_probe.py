# SPDX-License-Identifier: Apache-2.0
"""Can the object store be written to and read? Asked before work that needs it."""

import io
import secrets
from contextlib import suppress
from hashlib import sha256

from storage.objects.errors import (
    ObjectStoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from storage.objects.protocol import ObjectStore


def require_store(store: ObjectStore) -> None:
    """Nothing is left of an object that was written, read and deleted.

    Who may not delete leaves it: workers need no right to.

    Raises:
        ObjectStoreError: the store is missing, cannot be written to, or gives back
            other bytes than were written.
    """
    data = secrets.token_bytes(64)
    digest = sha256(data).hexdigest()
    key = f"doctor/{digest}"
    try:
        store.put(key, io.BytesIO(data), sha256=digest)
    except StoreUnavailableError:
        if _is_readable(store):
            # Some servers answer a write that is not allowed as if they were ill.
            raise StoreRefusedError(
                "the object store can be read but not written to: give this user the "
                "right to write, or start its server without its read-only option"
            ) from None
        raise
    with store.open(key) as stream:
        intact = stream.read() == data
    with suppress(ObjectStoreError):
        store.delete(key)
    if not intact:
        raise StoreRefusedError(
            "the object store gives back other bytes than were written: do not use it"
        )


def _is_readable(store: ObjectStore) -> bool:
    try:
        next(store.keys("doctor/"), None)
    except ObjectStoreError:
        return False
    return True

# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the object store, named by the reaction it needs.

```
StorageError
└─ ObjectStoreError
   ├─ InvalidKeyError        a fault in the caller's code: correct the key
   ├─ ObjectNotFoundError    nothing lies under that key
   ├─ ObjectExistsError      the key holds other content; objects are written once
   ├─ DigestMismatchError    the bytes are not those announced; nothing was stored
   ├─ StoreUnavailableError  the store does not answer: try again
   └─ StoreRefusedError      the store says no: a person must change something
```
"""

from storage.errors import StorageError


class ObjectStoreError(StorageError):
    """The root of every error that an object store raises on purpose."""


class InvalidKeyError(ObjectStoreError):
    """The key breaks the rules that both stores share; nothing was touched."""


class ObjectNotFoundError(ObjectStoreError):
    """No object lies under the key."""


class ObjectExistsError(ObjectStoreError):
    """The key already holds other content, which stays as it is."""


class DigestMismatchError(ObjectStoreError):
    """The bytes do not hash to the announced SHA-256; nothing was stored."""


class StoreUnavailableError(ObjectStoreError):
    """The store cannot be reached, broke off or is full; the same call may work later.

    What a `put` did before it broke off is unknown: repeat it, which is harmless.
    """


class StoreRefusedError(ObjectStoreError):
    """The store answers and says no: credentials, rights, bucket or settings."""

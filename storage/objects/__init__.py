# SPDX-License-Identifier: Apache-2.0
"""Where artifacts lie: one small protocol, kept by a folder and by S3.

Here: the protocol, its two keepers, their errors and `open_store`, the one place that
knows which keeper a URL means. Not here: what an artifact contains, and any database.
Importing this package must not import boto3: most commands never talk to S3.
"""

from storage.objects.errors import (
    DigestMismatchError,
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectStoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from storage.objects.opening import open_store
from storage.objects.protocol import ObjectInfo, ObjectStore
from storage.objects.s3_config import S3Config

__all__ = [
    "DigestMismatchError",
    "InvalidKeyError",
    "ObjectExistsError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "ObjectStore",
    "ObjectStoreError",
    "S3Config",
    "StoreRefusedError",
    "StoreUnavailableError",
    "open_store",
]

# SPDX-License-Identifier: Apache-2.0
"""Anchors in a bucket with Object Lock, in COMPLIANCE mode.

Until its retention ends nobody deletes or replaces such an object, the owner of the
account included. Each is written with `If-None-Match: *`, so that a second checkpoint
of one size is noticed, and looked at afterwards: a server that takes the lock's headers
and forgets them is refused.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from botocore.client import BaseClient
from botocore.exceptions import ClientError

from ledger.checkpoint import Checkpoint, read_unverified
from ledger.errors import BrokenLedgerError, FormatError
from ledger.note import MAX_NOTE_BYTES
from storage.anchoring.places import MOST_READ
from storage.objects.errors import ObjectNotFoundError, StoreRefusedError
from storage.objects.s3_errors import (
    error_code,
    http_status,
    missing_bucket,
    translating,
)

#: Clocks may differ by this much between the bucket and us.
_SLACK = timedelta(minutes=10)


class LockedBucket:
    """An `AnchorPlace` in one bucket, an object a checkpoint."""

    def __init__(
        self, bucket: str, prefix: str, client: BaseClient, *, retention_days: int
    ) -> None:
        """Nothing is contacted yet."""
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client: Any = client
        self._retention = timedelta(days=retention_days)

    @property
    def name(self) -> str:
        """See `AnchorPlace.name`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def keep(self, note: str) -> None:
        """See `AnchorPlace.keep`."""
        checkpoint = read_unverified(note)
        key = self._key(checkpoint)
        until = datetime.now(UTC) + self._retention
        try:
            with translating(self._bucket, key):
                is_new = self._put(key, note, until)
        except ObjectNotFoundError as exc:
            raise missing_bucket(self._bucket) from exc
        if not is_new:
            self._require_same(key, checkpoint)
        self._require_lock(key, until if is_new else None)

    def _put(self, key: str, note: str, until: datetime) -> bool:
        """Return whether the object was not there before."""
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=note.encode(),
                ContentType="text/plain; charset=utf-8",
                IfNoneMatch="*",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=until,
                # A locked object needs a checksum.
                ChecksumAlgorithm="SHA256",
            )
        except ClientError as exc:
            if http_status(exc) != 412:
                raise
            return False
        return True

    def notes(self) -> Iterator[str]:
        """See `AnchorPlace.notes`."""
        keys: list[str] = []
        with translating(self._bucket, ""):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}cp/"
            )
            for page in pages:
                keys += [entry["Key"] for entry in page.get("Contents", ())]
        # The size in the key has a fixed width, so that text sorts as numbers do.
        for key in sorted(keys)[-MOST_READ:]:
            yield self._read(key)

    def _key(self, checkpoint: Checkpoint) -> str:
        origin = quote(checkpoint.origin, safe="")
        return f"{self._prefix}cp/{origin}/{checkpoint.size:019d}"

    def _read(self, key: str) -> str:
        with translating(self._bucket, key):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            data: bytes = answer["Body"].read(MAX_NOTE_BYTES)
        return data.decode("utf-8", "replace")

    def _require_same(self, key: str, checkpoint: Checkpoint) -> None:
        try:
            kept = read_unverified(self._read(key))
        except FormatError:
            kept = None
        if kept != checkpoint:
            raise BrokenLedgerError(
                f"The anchor {self.name} holds another checkpoint of {checkpoint.size} "
                "entries: history was rewritten; run 'affidavit verify'."
            )

    def _locks(self) -> bool:
        try:
            found = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as exc:
            if error_code(exc) == "ObjectLockConfigurationNotFoundError":
                return False
            raise
        enabled = found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled")
        return bool(enabled == "Enabled")

    def _require_lock(self, key: str, until: datetime | None) -> None:
        with translating(self._bucket, key):
            locks = self._locks()
            found = self._client.head_object(Bucket=self._bucket, Key=key)
        kept_until = found.get("ObjectLockRetainUntilDate")
        is_locked = locks and found.get("ObjectLockMode") == "COMPLIANCE"
        if not is_locked or kept_until is None:
            raise StoreRefusedError(
                f"the bucket {self._bucket} does not lock objects (COMPLIANCE): what "
                "lies there can be replaced, so it is no anchor; make it with Object "
                "Lock enabled"
            )
        if until is not None and kept_until < until - _SLACK:
            raise StoreRefusedError(
                f"the bucket {self._bucket} keeps the object until {kept_until:%F}, "
                f"asked was {until:%F}"
            )

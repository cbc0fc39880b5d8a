# SPDX-License-Identifier: Apache-2.0
"""Objects in an S3 bucket.

The SHA-256 travels as user metadata. The ETag is never looked at: it is an MD5 for
small objects, something else for large or encrypted ones, and some servers invent it.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage.objects.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
)
from storage.objects.naming import checked_key, checked_prefix, checked_sha256
from storage.objects.protocol import ObjectInfo
from storage.objects.s3_config import S3Config
from storage.objects.s3_errors import (
    error_code,
    http_status,
    missing_bucket,
    translating,
)
from storage.objects.spool import copy_hashed, digest_of, require_digest, spooled

_PART_BYTES = 16 << 20  # one request up to here; S3 wants parts of at least 5 MiB
_CONFLICT_PAUSES_S = (0.1, 0.3, 1.0)


def s3_client(config: S3Config) -> BaseClient:
    """Return a client that threads may share; nothing has been sent yet."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=config.endpoint_url,
        verify=config.ca,
        aws_access_key_id=config.access_key_id,
        aws_secret_access_key=config.secret_access_key,
        config=Config(
            region_name=config.region,
            signature_version="s3v4",
            s3={"addressing_style": "path" if config.path_style else "virtual"},
            connect_timeout=config.connect_timeout_s,
            read_timeout=config.read_timeout_s,
            retries={"mode": "adaptive", "total_max_attempts": config.max_attempts},
            max_pool_connections=config.max_pool_connections,
            request_checksum_calculation=config.request_checksum_calculation,
            response_checksum_validation=config.request_checksum_calculation,
        ),
    )


class S3Store:
    """An `ObjectStore` in one bucket, below an optional prefix."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        client: BaseClient,
        *,
        conditional_writes: bool = False,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = client
        self._condition: Mapping[str, str] = (
            {"IfNoneMatch": "*"} if conditional_writes else {}
        )
        self._has_seen_bucket = False

    def put(self, key: str, data: BinaryIO, *, sha256: str) -> ObjectInfo:
        """See `ObjectStore.put`.

        Without conditional writes, of two writers who store other content at the same
        moment the later one wins and the earlier one is told by `ObjectExistsError`.
        """
        checked_key(key)
        checked_sha256(sha256)
        with spooled() as body:
            got, size_bytes = copy_hashed(data, body)
            require_digest(key, expected=sha256, got=got)
            with contextlib.suppress(ObjectNotFoundError):
                return self._require_same(self.stat(key), sha256)
            stored = self._stored(key, body, size_bytes, sha256)
        return self._require_same(stored, sha256)

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """See `ObjectStore.open`; the object is fetched whole before the block runs."""
        name = self._name(key)
        with spooled() as copy:
            with translating(self._bucket, key):
                answer = self._client.get_object(Bucket=self._bucket, Key=name)
                with contextlib.closing(answer["Body"]) as body:
                    copy_hashed(body, copy)
            copy.seek(0)
            yield copy

    def stat(self, key: str) -> ObjectInfo:
        """See `ObjectStore.stat`."""
        name = self._name(key)
        try:
            with translating(self._bucket, key):
                answer = self._client.head_object(Bucket=self._bucket, Key=name)
        except ObjectNotFoundError:
            self._require_bucket()
            raise
        self._has_seen_bucket = True
        return ObjectInfo(
            key=key,
            size_bytes=answer["ContentLength"],
            sha256=answer.get("Metadata", {}).get("sha256"),
            modified_at=answer["LastModified"].timestamp(),
        )

    def keys(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.keys`; one page of names is in memory at a time."""
        checked_prefix(prefix)
        return self._list(prefix)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        name = self._name(key)
        with (
            contextlib.suppress(ObjectNotFoundError),
            translating(self._bucket, key),
        ):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def leftovers(self) -> Iterator[ObjectInfo]:
        """See `ObjectStore.leftovers`: a bucket's own rules end parts of uploads."""
        return iter(())

    def delete_leftover(self, key: str) -> None:
        """See `ObjectStore.delete_leftover`; there are none."""

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _list(self, prefix: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with translating(self._bucket, prefix):
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self._prefix)

    def _require_bucket(self) -> None:
        """Tell a missing object from a missing bucket: HEAD answers both alike."""
        if self._has_seen_bucket:
            return
        try:
            with translating(self._bucket, ""):
                self._client.head_bucket(Bucket=self._bucket)
        except ObjectNotFoundError as exc:
            raise missing_bucket(self._bucket) from exc
        self._has_seen_bucket = True

    def _require_same(self, info: ObjectInfo, sha256: str) -> ObjectInfo:
        existing = info.sha256
        if existing is None:
            with self.open(info.key) as stored:
                existing = digest_of(stored)
        if existing != sha256:
            raise ObjectExistsError(
                f"object {info.key!r} already holds SHA-256 {existing}, not {sha256}: "
                "objects are written once, use another key"
            )
        return ObjectInfo(
            key=info.key,
            size_bytes=info.size_bytes,
            sha256=existing,
            modified_at=info.modified_at,
        )

    def _stored(
        self, key: str, body: BinaryIO, size_bytes: int, sha256: str
    ) -> ObjectInfo:
        """Send the body and return what lies there then.

        Some servers replace an object in two steps, so that it is gone for a moment
        while a rival writes the same key: look again, then send again.
        """
        for pause_s in _CONFLICT_PAUSES_S:
            with contextlib.suppress(ObjectNotFoundError):
                with translating(self._bucket, key):
                    self._upload(key, body, size_bytes, sha256)
                return self.stat(key)
            time.sleep(pause_s)
        with translating(self._bucket, key):
            self._upload(key, body, size_bytes, sha256)
        return self.stat(key)

    def _upload(self, key: str, body: BinaryIO, size_bytes: int, sha256: str) -> None:
        """Send the body; return also when another writer was first."""
        for pause_s in (*_CONFLICT_PAUSES_S, None):
            body.seek(0)
            try:
                if size_bytes <= _PART_BYTES:
                    self._put_object(key, body, sha256)
                else:
                    self._put_parts(key, body, sha256)
            except ClientError as exc:
                if http_status(exc) == 412 and self._condition:
                    return
                if error_code(exc) != "ConditionalRequestConflict" or pause_s is None:
                    raise
                time.sleep(pause_s)
            else:
                return

    def _put_object(self, key: str, body: BinaryIO, sha256: str) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=self._name(key),
            Body=body.read(),
            Metadata={"sha256": sha256},
            **self._condition,
        )

    def _put_parts(self, key: str, body: BinaryIO, sha256: str) -> None:
        """Send a large body in parts, in order; a failure leaves no part behind.

        boto3's own `upload_fileobj` cannot pass the condition on.
        """
        target = {"Bucket": self._bucket, "Key": self._name(key)}
        upload = self._client.create_multipart_upload(
            **target, Metadata={"sha256": sha256}
        )
        target["UploadId"] = upload["UploadId"]
        parts: list[dict[str, object]] = []
        try:
            while chunk := body.read(_PART_BYTES):
                number = len(parts) + 1
                sent = self._client.upload_part(**target, PartNumber=number, Body=chunk)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self._client.complete_multipart_upload(
                **target, MultipartUpload={"Parts": parts}, **self._condition
            )
        except (ClientError, BotoCoreError):
            with contextlib.suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(**target)
            raise

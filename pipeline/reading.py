# SPDX-License-Identifier: Apache-2.0
"""An item's bytes, or the reason why there are none.

Local files and objects in S3 look the same from here on. What is wrong with one item
becomes an `ItemError`; what is wrong with the machinery (a store that is away, a mount
that is gone) becomes an `InfrastructureError`, so that the shard is tried again.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InfrastructureError, ItemError, Reason, SpecError
from pipeline.limits import Limits
from pipeline.paths import AllowedRoots, PathEscapeError, is_remote
from pipeline.s3_objects import (
    S3_FAILURES,
    S3ClientFactory,
    etag_version,
    item_failure,
    split_s3_uri,
)

__all__ = ["ItemReader", "Limits", "mtime_version"]

#: A FIFO must not block the worker, nor a symlink made after the check be followed.
_OPEN_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW

_MISSING_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_REFUSED_ERRNOS = frozenset(
    {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EISDIR}
)


def mtime_version(mtime_ns: int) -> str:
    """Return a modification time as the version text of an item."""
    return f"mtime:{mtime_ns}"


def _open_descriptor(path: str, flags: int) -> int:
    return os.open(path, flags | _OPEN_FLAGS)


@dataclass(slots=True)
class ItemReader:
    """Reads whole items within limits, from allowed places only.

    Attributes:
        roots: Folders that local files must lie under.
        s3_client: Makes the S3 client on first use; None when S3 is not set up.
        limits: The largest file that is read.
        on_bytes: Told the size of whatever was read.
    """

    roots: AllowedRoots
    s3_client: S3ClientFactory | None = None
    limits: Limits = field(default_factory=Limits)
    on_bytes: Callable[[int], None] = lambda _count: None
    _client: Any = field(default=None, init=False, repr=False)

    def read(
        self,
        uri: str,
        expected_size: int | None = None,
        expected_version: str | None = None,
    ) -> bytes:
        """Return the item's bytes, which are those that the manifest meant.

        Units: `expected_size` in bytes; `expected_version` as the source gave it.

        Raises:
            ItemError: the item is missing, empty, too large, unreadable, outside the
                allowed roots, or not what it was when the manifest was made.
            InfrastructureError: the place that holds the item cannot be reached.
        """
        read = self._read_object if is_remote(uri) else self._read_file
        data = read(uri, expected_size, expected_version)
        self.on_bytes(len(data))
        return data

    def read_range(
        self, uri: str, start: int, stop: int, expected_version: str | None = None
    ) -> bytes:
        """Return some bytes of a file, fewer where it ends before.

        The file itself may be of any size; the range may not.

        Raises:
            ItemError, InfrastructureError: as `read`.
        """
        if stop - start > self.limits.max_bytes:
            raise ItemError(Reason.FILE_TOO_LARGE)
        if is_remote(uri):
            data = self._object_range(uri, start, stop, expected_version)
        else:
            data = self._file_range(uri, start, stop, expected_version)
        self.on_bytes(len(data))
        return data

    def checked_path(self, uri: str, expected_version: str | None = None) -> Path:
        """Return a local file that is what the manifest meant, for who reads parts.

        Raises:
            ItemError, InfrastructureError: as `read`; also where it is not local.
        """
        if is_remote(uri):
            raise ItemError(Reason.FILE_UNREADABLE)
        self._file_range(uri, 0, 1, expected_version)
        return Path(uri)

    def _file_range(
        self, uri: str, start: int, stop: int, version: str | None
    ) -> bytes:
        path = self._allowed(uri)
        try:
            with open(path, "rb", opener=_open_descriptor) as file:
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode):
                    raise ItemError(Reason.FILE_UNREADABLE)
                if version not in {None, mtime_version(facts.st_mtime_ns)}:
                    raise ItemError(Reason.FILE_CHANGED)
                return os.pread(file.fileno(), stop - start, start)
        except OSError as exc:
            raise self._local_failure(path, exc) from exc

    def _object_range(
        self, uri: str, start: int, stop: int, version: str | None
    ) -> bytes:
        client = self._s3()
        bucket, key = split_s3_uri(uri)
        try:
            answer = client.get_object(
                Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}"
            )
            with closing(answer["Body"]) as body:
                if version not in {None, etag_version(answer.get("ETag"))}:
                    raise ItemError(Reason.FILE_CHANGED)
                data: bytes = body.read()
        except S3_FAILURES as exc:
            raise item_failure(exc) from exc
        return data

    def _allowed(self, uri: str) -> Path:
        try:
            # Manifest rows are absolute, so the base is never used.
            return self.roots.resolve(uri, base=Path("/"))
        except PathEscapeError as exc:
            raise ItemError(Reason.OUTSIDE_ALLOWED_ROOTS) from exc
        except SpecError as exc:
            raise ItemError(Reason.FILE_UNREADABLE) from exc

    def _read_file(self, uri: str, size: int | None, version: str | None) -> bytes:
        path = self._allowed(uri)
        try:
            with open(path, "rb", opener=_open_descriptor) as file:
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode):
                    raise ItemError(Reason.FILE_UNREADABLE)
                found = mtime_version(facts.st_mtime_ns)
                self._check(facts.st_size, found, size, version)
                data = file.read(self.limits.max_bytes + 1)
        except OSError as exc:
            raise self._local_failure(path, exc) from exc
        if len(data) != facts.st_size:
            # Written to while it was read.
            raise ItemError(Reason.FILE_CHANGED)
        return data

    def _local_failure(
        self, path: Path, error: OSError
    ) -> ItemError | InfrastructureError:
        if error.errno in _REFUSED_ERRNOS:
            return ItemError(Reason.FILE_UNREADABLE)
        root = self.roots.root_of(path)
        if error.errno in _MISSING_ERRNOS and root is not None and root.is_dir():
            return ItemError(Reason.FILE_MISSING)
        code = errno.errorcode.get(error.errno or 0, "unknown")
        return InfrastructureError(
            f"The folder that holds the items cannot be read ({code}); check that it"
            " is mounted and healthy, then resume."
        )

    def _check(
        self,
        found_size: int,
        found_version: str | None,
        size: int | None,
        version: str | None,
    ) -> None:
        """Raise unless size and version are those expected and within limits."""
        changed = (size is not None and size != found_size) or (
            version is not None and version != found_version
        )
        if changed:
            raise ItemError(Reason.FILE_CHANGED)
        if found_size == 0:
            raise ItemError(Reason.FILE_EMPTY)
        if found_size > self.limits.max_bytes:
            raise ItemError(Reason.FILE_TOO_LARGE)

    def _read_object(self, uri: str, size: int | None, version: str | None) -> bytes:
        client = self._s3()
        bucket, key = split_s3_uri(uri)
        try:
            answer = client.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                found = etag_version(answer.get("ETag"))
                length = int(answer["ContentLength"])
                self._check(length, found, size, version)
                data: bytes = body.read()
        except S3_FAILURES as exc:
            raise item_failure(exc) from exc
        if len(data) != length:
            raise InfrastructureError(
                f"The object store sent {len(data)} of {length} bytes; check the"
                " connection, then resume."
            )
        return data

    def _s3(self) -> Any:
        if self.s3_client is None:
            raise InfrastructureError(
                "The manifest names s3:// items but no S3 connection is set up here;"
                " set the object store's address and credentials."
            )
        if self._client is None:
            self._client = self.s3_client()
        return self._client

# SPDX-License-Identifier: Apache-2.0
"""Objects as files below one folder.

A file is written beside the objects, flushed to the disk and then linked to its name:
the link either creates the name or fails, so two writers cannot overwrite each other
and a reader never meets half an object.
"""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from storage.objects.errors import (
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectStoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from storage.objects.naming import checked_key, checked_prefix, checked_sha256
from storage.objects.protocol import ObjectInfo
from storage.objects.spool import copy_hashed, digest_of, require_digest

_INCOMING = ".incoming"  # no key can name it: no segment starts with a dot
_LEFTOVER = re.compile(r"[0-9a-f]{32}")
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class FolderStore:
    """An `ObjectStore` in a local or mounted folder.

    The folder is created by the first `put`, so that reading commands leave no trace.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def put(self, key: str, data: BinaryIO, *, sha256: str) -> ObjectInfo:
        """See `ObjectStore.put`."""
        target = self._path(key)
        checked_sha256(sha256)
        with _translating(key, self._root):
            incoming = self._root / _INCOMING / secrets.token_hex(16)
            incoming.parent.mkdir(parents=True, exist_ok=True)
            try:
                with incoming.open("xb") as file:
                    got, _ = copy_hashed(data, file)
                    require_digest(key, expected=sha256, got=got)
                    file.flush()
                    os.fsync(file.fileno())
                self._publish(incoming, target, key, sha256)
            finally:
                incoming.unlink(missing_ok=True)
            return _info(key, target, sha256)

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """See `ObjectStore.open`."""
        path = self._path(key)
        with _translating(key, self._root):
            file = path.open("rb")
        with file:
            yield file

    def stat(self, key: str) -> ObjectInfo:
        """See `ObjectStore.stat`; the digest is always None."""
        path = self._path(key)
        with _translating(key, self._root):
            return _info(key, path, None)

    def keys(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.keys`; one folder's names are in memory at a time."""
        checked_prefix(prefix)
        folder, _, _ = prefix.rpartition("/")
        start = f"{folder}/" if folder else ""
        return self._walk(start, prefix)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        path = self._path(key)
        with contextlib.suppress(ObjectNotFoundError), _translating(key, self._root):
            if path.is_dir():
                return
            path.unlink()

    def leftovers(self) -> Iterator[ObjectInfo]:
        """See `ObjectStore.leftovers`; files with other names are not ours."""
        for name in _sorted_names(self._root / _INCOMING, self._root):
            if _LEFTOVER.fullmatch(name):
                with contextlib.suppress(ObjectNotFoundError):
                    yield self._leftover(name)

    def _leftover(self, name: str) -> ObjectInfo:
        with _translating(name, self._root):
            return _info(name, self._root / _INCOMING / name, None)

    def delete_leftover(self, key: str) -> None:
        """See `ObjectStore.delete_leftover`."""
        if not _LEFTOVER.fullmatch(key):
            raise InvalidKeyError(f"{key!r} names no half-written object")
        with _translating(key, self._root):
            (self._root / _INCOMING / key).unlink(missing_ok=True)

    def _publish(self, incoming: Path, target: Path, key: str, sha256: str) -> None:
        """Give the finished file its name, unless other content has it already."""
        is_new_folder = not target.parent.is_dir()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as exc:
            raise InvalidKeyError(
                f"object key {key!r} lies below another object: use another key"
            ) from exc
        try:
            _link(incoming, target)
        except FileExistsError:
            _require_same(target, key, sha256)
            return
        # The file was flushed before; its name, and the names of the folders above
        # it, must survive a power cut too.
        _sync_folder(target.parent)
        if is_new_folder:
            for folder in target.parent.parents:
                if not folder.is_relative_to(self._root):
                    break
                _sync_folder(folder)

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*checked_key(key).split("/"))

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        for name in _sorted_names(self._root / folder, self._root):
            key = folder + name
            if not key.startswith(prefix[: len(key)]):
                continue
            if name.endswith("/"):
                yield from self._walk(key, prefix)
            elif key.startswith(prefix):
                yield key


def _link(incoming: Path, target: Path) -> None:
    try:
        target.hardlink_to(incoming)
    except OSError as exc:
        if exc.errno not in _NO_HARD_LINKS:
            raise
        # A file system without hard links: the look and the rename are two steps, so
        # of two writers with other content the later one wins. Keys carry an attempt
        # number, so that only a fault of the program could make two such writers.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from exc
        incoming.replace(target)


def _require_same(target: Path, key: str, sha256: str) -> None:
    if target.is_dir():
        raise InvalidKeyError(
            f"object key {key!r} is already the folder of other objects: use another"
        )
    with target.open("rb") as file:
        existing = digest_of(file)
    if existing != sha256:
        raise ObjectExistsError(
            f"object {key!r} already holds SHA-256 {existing}, not {sha256}: "
            "objects are written once, use another key"
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _info(key: str, path: Path, sha256: str | None) -> ObjectInfo:
    status = path.stat()
    if path.is_dir():
        raise ObjectNotFoundError(f"no object lies under {key!r}")
    return ObjectInfo(
        key=key,
        size_bytes=status.st_size,
        sha256=sha256,
        modified_at=status.st_mtime,
    )


def _sorted_names(folder: Path, root: Path) -> list[str]:
    """Return the folder's names in key order: a folder sorts as `name/`."""
    try:
        with _translating(str(folder), root), os.scandir(folder) as entries:
            names = [
                entry.name + "/" if entry.is_dir() else entry.name
                for entry in entries
                if not entry.name.startswith(".")
            ]
    except ObjectNotFoundError:
        return []
    return sorted(names, key=os.fsencode)


@contextlib.contextmanager
def _translating(key: str, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _translated(exc, key, root) from exc


def _translated(exc: OSError, key: str, root: Path) -> ObjectStoreError:
    reason = exc.strerror or type(exc).__name__
    if exc.errno in {errno.ENOENT, errno.EISDIR}:
        return ObjectNotFoundError(f"no object lies under {key!r}")
    if exc.errno in {errno.ENOTDIR, errno.EEXIST}:
        if root.exists() and not root.is_dir():
            return StoreRefusedError(
                f"the object store {root} is a file: give the path of a folder"
            )
        return ObjectNotFoundError(
            f"no object can lie under {key!r}: a part of that path is an object"
        )
    if exc.errno in _REFUSED:
        return StoreRefusedError(
            f"the object store {root} refuses access ({reason}): "
            "give this user the right to read and write the folder"
        )
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreUnavailableError(
            f"the object store {root} is full ({reason}): free some space"
        )
    return StoreUnavailableError(
        f"the object store {root} does not answer ({reason}): check its disk or mount"
    )

# SPDX-License-Identifier: Apache-2.0
"""Reading a zip file from a stranger: every member is checked before any is read.

Refused: names that leave the folder (zip slip), names that come twice, links and
other special files, encryption, sizes and ratios of a decompression bomb, and
members that share bytes. Nothing is ever unpacked to the disk.
"""

import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from ledger.errors import BundleError, DamagedBundleError

_CHUNK: Final = 1 << 20
_ENCRYPTED: Final = 0x1
_UNIX: Final = 3
_NAME = re.compile(r"[A-Za-z0-9._@=+,~ -]+(/[A-Za-z0-9._@=+,~ -]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipLimits:
    """How large an honest archive may be."""

    members: int = 200_000
    member_bytes: int = 64 << 30
    total_bytes: int = 1 << 40
    #: Uncompressed to compressed size, for members above `ratio_from_bytes`.
    ratio: int = 200
    ratio_from_bytes: int = 10 << 20


class SafeZip:
    """A zip file whose members have passed the checks; close it after use."""

    def __init__(self, path: Path, limits: ZipLimits | None = None) -> None:
        """Open the archive and check its directory.

        Raises:
            BundleError: the file is missing or no zip.
            DamagedBundleError: a member is unsafe.
        """
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as exc:
            raise BundleError(f"{path} cannot be read: {exc.strerror}.") from exc
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as exc:
            raise BundleError(f"{path} is not a readable zip file.") from exc
        try:
            members = self._zip.infolist()
            check_members(members, path.stat().st_size, limits or ZipLimits())
        except BaseException:
            self._zip.close()
            raise
        self._members = {member.filename: member for member in members}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    @property
    def names(self) -> frozenset[str]:
        """The names of all members."""
        return frozenset(self._members)

    def read(self, name: str, limit: int) -> bytes:
        """Return a whole member of at most `limit` bytes.

        Raises:
            DamagedBundleError: it is missing, larger, or does not decompress.
        """
        size = self._member(name).file_size
        if size > limit:
            raise DamagedBundleError(
                f"{name} has {size} bytes, at most {limit} are expected"
            )
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a member in pieces of at most one mebibyte.

        Raises:
            DamagedBundleError: it is missing or does not decompress.
        """
        member = self._member(name)
        with _translate(name), self._zip.open(member) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    def lines(self, name: str, limit: int) -> Iterator[bytes]:
        """Yield the lines of a member, each without its newline.

        Raises:
            DamagedBundleError: it is missing, does not decompress, a line is longer
                than `limit` bytes, or the last one has no newline.
        """
        member = self._member(name)
        with (
            _translate(name),
            self._zip.open(member) as stream,
            io.BufferedReader(cast("io.RawIOBase", stream)) as buffered,
        ):
            while line := buffered.readline(limit + 1):
                if not line.endswith(b"\n"):
                    raise DamagedBundleError(
                        f"{name} holds a line that is cut off or over {limit} bytes"
                    )
                yield line[:-1]

    def sha256(self, name: str) -> tuple[str, int]:
        """Return the SHA-256 in hexadecimal and the size of a member's content.

        Raises:
            DamagedBundleError: it is missing or does not decompress.
        """
        digest = hashlib.sha256()
        size = 0
        for chunk in self.chunks(name):
            digest.update(chunk)
            size += len(chunk)
        return digest.hexdigest(), size

    def _member(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._members[name]
        except KeyError as exc:
            raise DamagedBundleError(f"{name} is missing from the archive") from exc


def check_member_name(name: str) -> None:
    """Return only if the name stays inside the folder on every system.

    Raises:
        DamagedBundleError: it is absolute, climbs, or holds odd characters.
    """
    if (
        not _NAME.fullmatch(name)
        or len(name) > 500
        or any(part.strip(". ") == "" for part in name.split("/"))
    ):
        raise DamagedBundleError(
            f"member name {name[:80]!r} is not a plain relative path"
        )


def check_members(
    members: list[zipfile.ZipInfo], archive_bytes: int, limits: ZipLimits
) -> None:
    """Return only if no member is unsafe and the whole is not too large.

    Raises:
        DamagedBundleError: the first thing that is not allowed.
    """
    if len(members) > limits.members:
        raise DamagedBundleError(
            f"the archive has {len(members)} members, at most {limits.members} allowed"
        )
    seen: set[str] = set()
    for member in members:
        _check_member(member, limits)
        # Two names that differ in case are one file on many systems.
        folded = member.filename.casefold()
        if folded in seen:
            raise DamagedBundleError(f"member {member.filename!r} comes twice")
        seen.add(folded)
    if sum(member.file_size for member in members) > limits.total_bytes:
        raise DamagedBundleError(
            f"the archive unpacks to more than {limits.total_bytes} bytes"
        )
    if sum(member.compress_size for member in members) > archive_bytes:
        raise DamagedBundleError("members of the archive overlap")


def _check_member(member: zipfile.ZipInfo, limits: ZipLimits) -> None:
    # zipfile cuts names at NUL and turns separators; the name as stored must be it.
    if member.orig_filename != member.filename:
        raise DamagedBundleError(
            f"member name {member.orig_filename[:80]!r} is ambiguous"
        )
    check_member_name(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if member.create_system == _UNIX and kind not in {0, stat.S_IFREG}:
        raise DamagedBundleError(f"member {member.filename!r} is a link or a device")
    if member.flag_bits & _ENCRYPTED:
        raise DamagedBundleError(f"member {member.filename!r} is encrypted")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise DamagedBundleError(
            f"member {member.filename!r} uses a compression other than deflate"
        )
    if member.file_size > limits.member_bytes:
        raise DamagedBundleError(
            f"member {member.filename!r} unpacks to {member.file_size} bytes, at most "
            f"{limits.member_bytes} allowed"
        )
    if (
        member.file_size > limits.ratio_from_bytes
        and member.file_size > limits.ratio * member.compress_size
    ):
        raise DamagedBundleError(
            f"member {member.filename!r} unpacks to over {limits.ratio} times its size"
        )


@contextmanager
def _translate(name: str) -> Iterator[None]:
    """What zipfile raises for broken content comes out as one error of ours."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OSError,
        # A local header whose name is no text, or an offset before the file.
        ValueError,
    ) as exc:
        raise DamagedBundleError(f"{name} is damaged: {exc}") from exc

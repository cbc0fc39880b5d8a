# SPDX-License-Identifier: Apache-2.0
"""What an anchor's place can do, and which place a URL means."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from storage.objects.errors import StoreRefusedError
from storage.objects.s3_config import S3Config

#: Newest anchors that are read back; each vouches for everything before it.
MOST_READ = 1_000


class AnchorPlace(Protocol):
    """A place that keeps signed notes and never takes one back."""

    @property
    def name(self) -> str:
        """The place's URL, without credentials."""
        ...

    def keep(self, note: str) -> None:
        """The place holds this checkpoint; holding it already is fine.

        Raises:
            BrokenLedgerError: it holds another checkpoint of that size.
            StorageError: it cannot be reached, or does not keep what it is given.
        """
        ...

    def notes(self) -> Iterator[str]:
        """Every note that the place holds, the oldest first, at most the newest 1,000.

        Raises:
            StorageError: it cannot be read.
        """
        ...


def open_place(url: str, s3: S3Config, *, retention_days: int) -> AnchorPlace:
    """Return the place behind `s3://bucket/prefix`, `file:///file` or a path.

    Nothing is contacted yet.

    Raises:
        StoreRefusedError: the URL is none of these.
    """
    from storage.anchoring.append_file import AppendFile  # noqa: PLC0415

    if "://" not in url:
        return AppendFile(Path(url).expanduser())
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return AppendFile(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        from storage.anchoring.locked_bucket import LockedBucket  # noqa: PLC0415
        from storage.objects.s3 import s3_client  # noqa: PLC0415

        return LockedBucket(
            parts.netloc, parts.path, s3_client(s3), retention_days=retention_days
        )
    raise StoreRefusedError(
        f"an anchor has the form {parts.scheme}://..., expected s3://bucket/prefix, "
        "file:///file or a path; correct AFFIDAVIT_ANCHORS"
    )

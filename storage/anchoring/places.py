# SPDX-License-Identifier: Apache-2.0
"""What an anchor's place can do, and which place a URL means."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from ledger.checkpoint import read_unverified
from ledger.errors import BrokenLedgerError
from storage.objects.errors import StoreRefusedError
from storage.objects.s3_config import S3Config

#: Newest anchors that are read back; each vouches for everything before it.
MOST_READ = 1_000
_GIT_SCHEMES: Final = ("git+file://", "git+ssh://", "git+https://")


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


def holds_already(kept: Iterable[str], note: str, name: str) -> bool:
    """Return whether the checkpoint is among those that a place keeps.

    Args:
        kept: The notes that it keeps.
        note: The new one.
        name: What messages call the place.

    Raises:
        BrokenLedgerError: another checkpoint of its size is there.
    """
    new = read_unverified(note)
    for other in kept:
        old = read_unverified(other)
        if (old.origin, old.size) != (new.origin, new.size):
            continue
        if old.root != new.root:
            raise BrokenLedgerError(
                f"The anchor {name} holds another checkpoint of {new.size} entries: "
                "history was rewritten; run 'affidavit verify'."
            )
        return True
    return False


def anchor_line(note: str) -> str:
    """Return the line of JSON that tells when the note was kept."""
    return json.dumps({"at": datetime.now(UTC).isoformat(), "note": note}) + "\n"


def open_place(url: str, s3: S3Config, *, retention_days: int) -> AnchorPlace:
    """Return the place behind an `s3:`, `file:`, `git+...:` address or a path.

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
    if url.startswith(_GIT_SCHEMES) and parts.password is None:
        from storage.anchoring.git_repository import GitRepository  # noqa: PLC0415

        return GitRepository(url.removeprefix("git+"))
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        from storage.anchoring.locked_bucket import LockedBucket  # noqa: PLC0415
        from storage.objects.s3 import s3_client  # noqa: PLC0415

        return LockedBucket(
            parts.netloc, parts.path, s3_client(s3), retention_days=retention_days
        )
    raise StoreRefusedError(
        f"an anchor has the form {parts.scheme}://..., expected s3://bucket/prefix, "
        "file:///file, git+ssh://host/repository (file, ssh or https, without a "
        "password) or a path; correct AFFIDAVIT_ANCHORS"
    )

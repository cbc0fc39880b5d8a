# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up: one of its own where we may mount one, else a limit on writers.

Both are errors of the operating system. A full disk is ENOSPC to whoever writes; where
nothing can be mounted the writers get the limit of `ulimit -f`, and EFBIG.
"""

import contextlib
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

SIZE = 32 << 20
#: Less than any artifact has.
LIMIT = 256


class SmallDisk(Protocol):
    """A folder whose disk can be filled and freed."""

    folder: Path
    #: What attempts at a shard fail with that have no room.
    errors: frozenset[str]

    def fill(self, *writers: int) -> None:
        """No byte more can be stored by those processes."""

    def free(self) -> None:
        """There is room again."""


@dataclass(kw_only=True)
class MountedDisk:
    """A file system in memory, filled to its last block by a file."""

    folder: Path
    errors: frozenset[str] = frozenset({"StoreUnavailableError"})

    def fill(self, *_writers: int) -> None:
        """See `SmallDisk.fill`; it is full for everybody."""
        with (
            contextlib.suppress(OSError),
            self._ballast.open("wb", buffering=0) as file,
        ):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """See `SmallDisk.free`."""
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return self.folder / ".ballast"


@dataclass(kw_only=True)
class LimitedWriters:
    """A folder like any other, whose writers may write no more than a few bytes.

    That holds for their temporary files as well, so a shard fails before it is stored.
    """

    folder: Path
    errors: frozenset[str] = frozenset({"StoreUnavailableError", "OSError"})
    _limited: dict[int, tuple[int, int]] = field(default_factory=dict)

    def fill(self, *writers: int) -> None:
        """See `SmallDisk.fill`; others have room."""
        for pid in writers:
            usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            self._limited[pid] = usual
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (LIMIT, usual[1]))

    def free(self) -> None:
        """See `SmallDisk.free`."""
        for pid, usual in self._limited.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Lend an empty folder on a small disk."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if not _succeeds(mount):
        yield LimitedWriters(folder=folder)
        return
    try:
        yield MountedDisk(folder=folder)
    finally:
        # Lazily: whoever still has a file open keeps nobody from going on.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False

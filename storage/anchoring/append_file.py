# SPDX-License-Identifier: Apache-2.0
"""Anchors as lines of a file on another machine, in a folder that only grows.

The file is opened for appending alone. What makes it an anchor is where it lies: a
mounted folder of somebody else, or a file with the append-only attribute.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ledger.anchors import parse_lines
from ledger.checkpoint import read_unverified
from ledger.errors import BrokenLedgerError, FormatError
from storage.anchoring.places import MOST_READ
from storage.objects.errors import StoreRefusedError


class AppendFile:
    """An `AnchorPlace` in one file, a line of JSON a note."""

    def __init__(self, path: Path) -> None:
        """Nothing is touched yet."""
        self._path = path.absolute()

    @property
    def name(self) -> str:
        """See `AnchorPlace.name`."""
        return f"file://{self._path}"

    def keep(self, note: str) -> None:
        """See `AnchorPlace.keep`."""
        new = read_unverified(note)
        for kept in self.notes():
            old = read_unverified(kept)
            if (old.origin, old.size) == (new.origin, new.size):
                if old.root != new.root:
                    raise BrokenLedgerError(
                        f"The anchor {self.name} holds another checkpoint of "
                        f"{new.size} entries: history was rewritten; run "
                        "'affidavit verify'."
                    )
                return
        line = json.dumps({"at": datetime.now(UTC).isoformat(), "note": note}) + "\n"
        try:
            self._append(line.encode())
        except OSError as exc:
            raise StoreRefusedError(
                f"the anchor {self.name} cannot be written ({exc.strerror})"
            ) from exc

    def notes(self) -> Iterator[str]:
        """See `AnchorPlace.notes`."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as exc:
            raise StoreRefusedError(f"the anchor {self.name} cannot be read") from exc
        try:
            yield from parse_lines(text)[-MOST_READ:]
        except FormatError as exc:
            raise StoreRefusedError(
                f"the anchor {self.name} holds a line that is no checkpoint"
            ) from exc

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self._path, flags, 0o644)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

# SPDX-License-Identifier: Apache-2.0
"""Anchors as lines of a file on another machine, in a folder that only grows.

The file is opened for appending alone. What makes it an anchor is where it lies: a
mounted folder of somebody else, or a file with the append-only attribute.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ledger.anchors import parse_lines
from ledger.errors import FormatError
from storage.anchoring.places import MOST_READ, anchor_line, holds_already
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
        if holds_already(self.notes(), note, self.name):
            return
        try:
            self._append(anchor_line(note).encode())
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

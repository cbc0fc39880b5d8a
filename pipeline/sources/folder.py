# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures, its subfolders included."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.domain import SourceItem
from pipeline.errors import SourceError
from pipeline.paths import AllowedRoots
from pipeline.reading import mtime_version
from pipeline.sources.sorting import Entry, sorted_entries
from pipeline.sources.source import (
    PICTURE_SUFFIXES,
    folder_label,
    is_item_path,
    refuse_empty,
)


class _Pending(NamedTuple):
    """A folder still to be listed."""

    path: str
    #: Real paths of the folders that symlinks were followed from, to notice loops.
    left: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Every picture under a folder, in byte order of the relative path.

    Hidden files and folders and files without a picture's suffix are no items. Linked
    folders are followed as long as they stay under the allowed roots.

    Attributes:
        folder: The folder, free of symlinks.
        roots: Where linked folders may lead.
        labelled: Whether the first subfolder is the label.
        suffixes: Of the files that are items.
    """

    folder: Path
    roots: AllowedRoots
    labelled: bool = False
    suffixes: Collection[str] = PICTURE_SUFFIXES

    @property
    def kind(self) -> str:
        """What sort of source it is."""
        return "folder"

    def items(self) -> Iterator[SourceItem]:
        """Yield every picture in byte order of its path below the folder.

        Raises:
            SourceError: a folder cannot be listed, or there is no picture.
        """
        return refuse_empty(
            (self._item(entry) for entry in sorted_entries(self._entries())),
            f"The folder {self.folder} holds no {self._wanted} in it and below)",
        )

    @property
    def _wanted(self) -> str:
        if self.suffixes is PICTURE_SUFFIXES:
            return "picture (looked for .jpg, .png, .webp, .tif, .bmp and .gif"
        return f"item (looked for {' and '.join(sorted(self.suffixes))}"

    @property
    def _prefix(self) -> str:
        return f"{str(self.folder).rstrip('/')}/"

    def _item(self, entry: Entry) -> SourceItem:
        relative = os.fsdecode(entry.path)
        return SourceItem(
            uri=self._prefix + relative,
            size_bytes=entry.size_bytes,
            version=entry.version,
            label=folder_label(relative) if self.labelled else None,
        )

    def _entries(self) -> Iterator[Entry]:
        pending = [_Pending(str(self.folder), ())]
        while pending:
            current = pending.pop()
            try:
                with os.scandir(current.path) as listing:
                    for found in listing:
                        if found.name.startswith("."):
                            continue
                        if _is_folder(found):
                            pending.extend(self._step_into(found, current))
                        elif is_item_path(found.name, self.suffixes):
                            yield self._entry(found)
            except OSError as exc:
                raise SourceError(
                    f"The folder {current.path!r} cannot be listed ({exc.strerror});"
                    " check its permissions."
                ) from exc

    def _entry(self, found: os.DirEntry[str]) -> Entry:
        path = os.fsencode(found.path.removeprefix(self._prefix))
        try:
            path.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise SourceError(
                f"The file name {path!r} is not UTF-8, so that no manifest can hold"
                " it; rename the file."
            ) from exc
        try:
            facts = found.stat()
        except OSError:
            # Such as a dangling link: an item all the same, which fails when read.
            return Entry(path, None, None)
        return Entry(path, facts.st_size, mtime_version(facts.st_mtime_ns))

    def _step_into(
        self, found: os.DirEntry[str], current: _Pending
    ) -> Iterator[_Pending]:
        if not found.is_symlink():
            yield _Pending(found.path, current.left)
            return
        target = Path(found.path).resolve()
        if not self.roots.contain(target):
            raise SourceError(
                f"The folder {found.path!r} is a link to a place outside the folders"
                " that audits may read; remove it or add its target to"
                " AFFIDAVIT_ALLOWED_ROOTS."
            )
        left = (*current.left, Path(current.path).resolve())
        # A link to a folder that we are inside of would never end.
        if not any(place.is_relative_to(target) for place in left):
            yield _Pending(found.path, left)


def _is_folder(found: os.DirEntry[str]) -> bool:
    """Return whether it is a folder or a link to one that can be looked at."""
    try:
        return found.is_dir()
    except OSError:
        return False

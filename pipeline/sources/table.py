# SPDX-License-Identifier: Apache-2.0
"""A CSV or Parquet manifest: one row an item."""

import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pipeline.domain import SourceItem
from pipeline.errors import SourceError
from pipeline.paths import AllowedRoots, is_remote
from pipeline.reading import mtime_version
from pipeline.s3_objects import split_s3_uri
from pipeline.sources.cells import (
    Cells,
    csv_cells,
    csv_columns,
    parquet_cells,
    parquet_columns,
)
from pipeline.sources.source import refuse_empty, require_column
from pipeline.spec import ColumnsSpec

TABLE_SUFFIXES = (".csv", ".parquet")

#: Characters of a path, a label or a subject; more is a file in a cell, or damage.
MAX_CELL = 8192


class _Facts(NamedTuple):
    size_bytes: int | None
    version: str | None


_UNKNOWN = _Facts(None, None)


@dataclass(frozen=True, slots=True)
class TableSource:
    """The rows of a manifest file, in the file's order.

    A local item's size and modification time are noted so that a later change is
    noticed. Items that are missing, outside the allowed roots or in S3 have neither:
    the first two fail when they are read, and asking S3 about each row of a long
    manifest would cost one request an item.

    Attributes:
        file: The manifest, on local disk.
        columns: Which column means what.
        roots: Folders that may be looked into.
        address: What messages call the manifest, and the place that relative paths
            count from; None means the file itself.
    """

    file: Path
    columns: ColumnsSpec
    roots: AllowedRoots
    address: str | None = field(default=None)

    @property
    def kind(self) -> str:
        """What sort of source it is."""
        return self.file.suffix.lower().removeprefix(".")

    def items(self) -> Iterator[SourceItem]:
        """Yield one item a row, in the order of the file.

        Raises:
            SourceError: the file is damaged or empty, a column is not there, or a row
                names no item.
        """
        where = self.address or str(self.file)
        reading = _Rows(self.columns, where, self.roots)
        read_columns, read_cells = (
            (csv_columns, csv_cells)
            if self.kind == "csv"
            else (parquet_columns, parquet_cells)
        )
        known = read_columns(self.file, where)
        for role, name in reading.wanted:
            require_column(role, name, known, where)
        cells = read_cells(self.file, [name for _, name in reading.wanted], where)
        yield from refuse_empty(
            (reading.item(number, row) for number, row in enumerate(cells, start=1)),
            f"The manifest {where} has no rows",
        )


class _Rows:
    """Turns the cells of one manifest into items."""

    def __init__(self, columns: ColumnsSpec, where: str, roots: AllowedRoots) -> None:
        roles = [
            ("uri", columns.uri),
            ("label", columns.label),
            ("mask", columns.mask),
            ("subject", columns.subject),
            *(("groups", name) for name in columns.groups),
        ]
        #: Role and column name, in the order of the cells.
        self.wanted = [(role, name) for role, name in roles if name is not None]
        self._where = where
        self._base = _folder_of(where)
        self._roots = roots
        # Manifests name few folders and many files.
        self._real_folder = lru_cache(maxsize=4096)(self._real_folder_uncached)

    def item(self, number: int, row: Cells) -> SourceItem:
        """Return the item of a row; `number` counts from 1 without the header."""
        roles: dict[str, str | None] = {}
        groups: dict[str, str] = {}
        for (role, name), cell in zip(self.wanted, row, strict=True):
            if cell is not None:
                self._refuse_odd(cell, number, name)
            if role != "groups":
                roles[role] = cell
            elif cell is not None:
                groups[name] = cell
        text = roles["uri"]
        if text is None or not text.strip():
            raise SourceError(
                f"Row {number} of {self._where} has nothing in column"
                f" {self.wanted[0][1]!r}; every row must name its file."
            )
        uri = self._absolute(text)
        mask = roles.get("mask")
        size_bytes, version = self._facts(uri)
        return SourceItem(
            uri=uri,
            size_bytes=size_bytes,
            version=version,
            label=roles.get("label"),
            mask_uri=None if mask is None else self._absolute(mask),
            subject=roles.get("subject"),
            groups=groups,
        )

    def _refuse_odd(self, cell: str, number: int, name: str) -> None:
        if "\0" in cell:
            raise SourceError(
                f"Row {number} of {self._where} holds a NUL character in column"
                f" {name!r}; remove it."
            )
        if len(cell) > MAX_CELL:
            raise SourceError(
                f"Row {number} of {self._where} holds {len(cell):,} characters in"
                f" column {name!r}, at most {MAX_CELL:,} are expected; shorten it."
            )

    def _absolute(self, text: str) -> str:
        """Return the text as an absolute path or S3 URI."""
        if is_remote(text) or text.startswith("/"):
            joined = text
        else:
            joined = f"{self._base}/{text}"
        if is_remote(joined):
            return joined if joined == text else _normal_key(joined)
        # Two dots after a symlink mean another folder than their text says.
        return (
            os.path.realpath(joined)
            if ".." in joined.split("/")
            else os.path.normpath(joined)
        )

    def _facts(self, uri: str) -> _Facts:
        """Return size and version of a local file that may be looked at."""
        if is_remote(uri):
            return _UNKNOWN
        folder, name = os.path.split(uri)
        real = self._real_folder(folder)
        if real is None:
            return _UNKNOWN
        try:
            facts = os.lstat(f"{real}/{name}")
            if stat.S_ISLNK(facts.st_mode):
                target = Path(uri).resolve()
                if not self._roots.contain(target):
                    return _UNKNOWN
                facts = target.stat()
        except (OSError, RuntimeError, ValueError):
            return _UNKNOWN
        return _Facts(facts.st_size, mtime_version(facts.st_mtime_ns))

    def _real_folder_uncached(self, folder: str) -> str | None:
        real = os.path.realpath(folder)
        return real if self._roots.contain(Path(real)) else None


def _folder_of(where: str) -> str:
    return where.rpartition("/")[0] if is_remote(where) else str(Path(where).parent)


def _normal_key(uri: str) -> str:
    bucket, key = split_s3_uri(uri)
    return f"s3://{bucket}/{posixpath.normpath(key).lstrip('/')}"

# SPDX-License-Identifier: Apache-2.0
"""A table whose rows are the items: CSV, JSON lines or Parquet.

Consecutive rows with one value in the id column are one item, such as the steps of a
sequence. Items are named by where they lie in the file (`pipeline.records`).
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.domain import SourceItem
from pipeline.errors import SourceError
from pipeline.reading import mtime_version
from pipeline.records import row_uri
from pipeline.s3_objects import S3ClientFactory
from pipeline.sources.cells import text_of
from pipeline.sources.fetching import fetch_object
from pipeline.sources.source import refuse_empty, require_column
from pipeline.spec import ColumnsSpec

_BATCH_ROWS = 2048


class _Row(NamedTuple):
    """One row: where it lies, and its cells by column."""

    start: int
    stop: int
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordSource:
    """The rows of a file, in the file's order.

    Attributes:
        file: The table, on local disk.
        columns: Which column means what.
        address: What items are named by; None means the file itself.
        version: Of the address; None takes the file's modification time.
    """

    file: Path
    columns: ColumnsSpec
    address: str | None = None
    version: str | None = None

    @property
    def kind(self) -> str:
        """What sort of source it is: csv, jsonl or parquet."""
        return self.file.suffix.lower().removeprefix(".")

    def items(self) -> Iterator[SourceItem]:
        """Yield one item a row, or one a group of rows with the same id.

        Raises:
            SourceError: the file is damaged or empty, or a column is not there.
        """
        where = self.address or str(self.file)
        version = self.version or mtime_version(self.file.stat().st_mtime_ns)
        unit = "rows" if self.kind == "parquet" else "bytes"
        rows = self._grouped(self._rows(where), where)
        yield from refuse_empty(
            (
                self._item(row_uri(where, unit, row.start, row.stop), row, version)
                for row in rows
            ),
            f"The table {where} has no rows",
        )

    def _rows(self, where: str) -> Iterator[_Row]:
        if self.kind == "csv":
            return _csv_rows(self.file, where, self._require)
        if self.kind == "jsonl":
            return _json_rows(self.file, where)
        return _parquet_rows(self.file, where, self._require, self._wanted)

    @property
    def _wanted(self) -> list[str]:
        columns = self.columns
        roles = [columns.label, columns.mask, columns.subject, columns.id]
        found = [name for name in (*roles, *columns.groups) if name is not None]
        return list(dict.fromkeys(found))

    def _require(self, known: list[str], where: str) -> None:
        columns = self.columns
        for role in ("text", "label", "mask", "subject", "id", "step"):
            name = getattr(columns, role)
            if name is not None:
                require_column(role, name, known, where)
        for role in ("features", "groups"):
            for name in getattr(columns, role):
                require_column(role, name, known, where)

    def _grouped(self, rows: Iterator[_Row], where: str) -> Iterator[_Row]:
        """Yield rows of one id as one; an id that comes again later is refused."""
        name = self.columns.id
        if name is None:
            yield from rows
            return
        begun: _Row | None = None
        seen: set[int] = set()
        for row in rows:
            value = text_of(row.cells.get(name))
            if value is None:
                raise SourceError(
                    f"{where} has a row without {name!r} (data.columns.id); every row"
                    " must say which item it belongs to."
                )
            if begun is not None and text_of(begun.cells.get(name)) == value:
                begun = _Row(begun.start, row.stop, begun.cells)
                continue
            if begun is not None:
                yield begun
            key = hash(value)
            if key in seen:
                raise SourceError(
                    f"{where} has rows of one {name!r} in several places; sort it by"
                    f" {name!r}, so that the rows of an item follow each other."
                )
            seen.add(key)
            begun = row
        if begun is not None:
            yield begun

    def _item(self, uri: str, row: _Row, version: str) -> SourceItem:
        columns = self.columns

        def cell(name: str | None) -> str | None:
            found = None if name is None else text_of(row.cells.get(name))
            _require_text(found, name, uri)
            return found

        return SourceItem(
            uri=uri,
            size_bytes=None,
            version=version,
            label=cell(columns.label),
            # The marks are in the row itself.
            mask_uri=uri if cell(columns.mask) is not None else None,
            subject=cell(columns.subject),
            groups={
                name: value
                for name in columns.groups
                if (value := cell(name)) is not None
            },
        )


def _require_text(cell: str | None, column: str | None, uri: str) -> None:
    """Refuse half a character, which no database and no digest can hold.

    Raises:
        SourceError: the cell holds one.
    """
    try:
        (cell or "").encode("utf-8")
    except UnicodeEncodeError as exc:
        raise SourceError(
            f"{uri} holds half of a character (a lone surrogate) in column"
            f" {column!r}; write the file again as UTF-8."
        ) from exc


@dataclass(frozen=True, slots=True)
class S3RecordSource:
    """Rows of a CSV or JSON lines object; workers read ranges of it.

    Attributes:
        uri: `s3://bucket/key`.
        columns: Which column means what.
        s3_client: Makes the client.
    """

    uri: str
    columns: ColumnsSpec
    s3_client: S3ClientFactory

    @property
    def kind(self) -> str:
        """What sort of source it is."""
        return self.uri.rsplit(".", 1)[-1].lower()

    def items(self) -> Iterator[SourceItem]:
        """Yield as `RecordSource.items`.

        Raises:
            SourceError: the table is missing or wrong.
            InfrastructureError: the object store is away.
        """
        with TemporaryDirectory(prefix="affidavit-table-") as folder:
            file = Path(folder) / f"table.{self.kind}"
            version = fetch_object(self.s3_client(), self.uri, file)
            source = RecordSource(file, self.columns, self.uri, version)
            yield from source.items()


def _csv_rows(file: Path, where: str, require: Any) -> Iterator[_Row]:
    with file.open("rb") as stream:
        at = _Counted(stream, where)
        rows = csv.reader(at, strict=True)
        try:
            header = next(rows, None)
            if not header:
                raise SourceError(
                    f"{where} is empty; its first line must name the columns."
                )
            doubled = sorted({name for name in header if header.count(name) > 1})
            if doubled:
                raise SourceError(
                    f"{where} names the column {doubled[0]!r} twice; rename one."
                )
            require(header, where)
            start, number = at.bytes, 0
            for row in rows:
                if row:
                    number += 1
                    if len(row) != len(header):
                        raise SourceError(
                            f"Row {number} of {where} has {len(row)} fields but the"
                            f" header has {len(header)}; quote fields that hold a"
                            " comma."
                        )
                    yield _Row(start, at.bytes, dict(zip(header, row, strict=True)))
                start = at.bytes
        except csv.Error as exc:
            raise SourceError(
                f"{where} is not valid CSV near line {rows.line_num}: {exc}."
            ) from exc


class _Counted:
    """The lines of a file as text, and how many bytes they took so far."""

    def __init__(self, stream: Any, where: str) -> None:
        self._stream = stream
        self._where = where
        self._lines = 0
        self.bytes = 0

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> str:
        line: bytes = next(self._stream)
        self._lines += 1
        encoding = "utf-8-sig" if self.bytes == 0 else "utf-8"
        self.bytes += len(line)
        try:
            return line.decode(encoding)
        except UnicodeDecodeError as exc:
            raise SourceError(
                f"{self._where} is not UTF-8 in line {self._lines}; save it as UTF-8."
            ) from exc


def _json_rows(file: Path, where: str) -> Iterator[_Row]:
    with file.open("rb") as stream:
        start = 0
        for number, line in enumerate(stream, start=1):
            stop = start + len(line)
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as exc:
                    raise SourceError(
                        f"Line {number} of {where} is not JSON; each line must be one"
                        " object."
                    ) from exc
                if not isinstance(row, dict):
                    raise SourceError(
                        f"Line {number} of {where} is no JSON object; each line must"
                        " be one, such as {'text': ...}."
                    )
                yield _Row(start, stop, row)
            start = stop


def _parquet_rows(
    file: Path, where: str, require: Any, wanted: list[str]
) -> Iterator[_Row]:
    try:
        with pq.ParquetFile(file, pre_buffer=False) as table:
            require(list(table.schema_arrow.names), where)
            if not wanted:
                for place in range(table.metadata.num_rows):
                    yield _Row(place, place + 1, {})
                return
            place = 0
            for batch in table.iter_batches(_BATCH_ROWS, columns=wanted):
                for row in batch.to_pylist():
                    yield _Row(place, place + 1, row)
                    place += 1
    except (pa.ArrowException, OSError) as exc:
        raise SourceError(f"{where} is not a Parquet file that can be read.") from exc

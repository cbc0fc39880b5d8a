# SPDX-License-Identifier: Apache-2.0
"""Items that are rows of a table, or whole files, as a worker reads them.

A row is named by where it lies in its file: `FILE#bytes=120-340` of CSV (in UTF-8) and
JSON lines, `FILE#rows=17-18` of Parquet; the second number is the first one behind.
Its digest is SHA-256 over the RFC 8785 JSON of the list of its rows, each a mapping of
column to value, so that neither line ends nor compression are in it.
"""

import csv
import hashlib
import io
import json
import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ledger.canonical import canonical_bytes
from ledger.errors import CanonicalFormError
from pipeline.errors import ItemError, Reason
from pipeline.paths import is_remote
from pipeline.reading import ItemReader

#: One row: its columns by name; None where a cell is empty.
Row = dict[str, Any]

_PLACE = re.compile(r"#(bytes|rows)=(\d+)-(\d+)$")
#: A header longer than this is damage.
_HEADER_BYTES = 1_048_576


class Place(NamedTuple):
    """Where in which file a row lies."""

    file: str
    unit: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One item as it was read.

    Attributes:
        data: The bytes: of the file, or the canonical JSON of the rows.
        rows: The rows; None of a file.
    """

    data: bytes
    rows: tuple[Row, ...] | None = None

    @property
    def sha256(self) -> str:
        """Digest of the bytes."""
        return hashlib.sha256(self.data).hexdigest()


def place_of(uri: str) -> Place | None:
    """Return where in its file a row lies, None where the URI names a whole file."""
    found = _PLACE.search(uri)
    if found is None:
        return None
    unit, start, stop = found.groups()
    return Place(uri[: found.start()], unit, int(start), int(stop))


def row_uri(file: str, unit: str, start: int, stop: int) -> str:
    """Return the name of the rows that lie there."""
    return f"{file}#{unit}={start}-{stop}"


@dataclass(slots=True)
class RecordReader:
    """Reads items of one run within the limits of the reader of files."""

    reader: ItemReader
    _headers: dict[tuple[str, str | None], list[str]] = field(default_factory=dict)

    def read(
        self, uri: str, expected_size: int | None, expected_version: str | None
    ) -> Record:
        """Return the item, which is the one that the manifest meant.

        Raises:
            ItemError: as `ItemReader.read`, or the rows are not what they were.
            InfrastructureError: the place that holds the item cannot be reached.
        """
        place = place_of(uri)
        if place is None:
            return Record(data=self.reader.read(uri, expected_size, expected_version))
        if place.unit == "rows":
            rows = self._parquet(place, expected_version)
        else:
            data = self.reader.read_range(
                place.file, place.start, place.stop, expected_version
            )
            rows = self._parsed(place, data, expected_version)
        try:
            return Record(data=canonical_bytes(list(rows)), rows=rows)
        except (CanonicalFormError, TypeError, ValueError) as exc:
            # Such as an integer that JSON readers would round, or half a character.
            raise ItemError(Reason.ROW_UNREADABLE) from exc

    def _parsed(
        self, place: Place, data: bytes, version: str | None
    ) -> tuple[Row, ...]:
        try:
            text = data.decode("utf-8")
            if Path(place.file).suffix.lower() == ".jsonl":
                return tuple(_json_row(line) for line in text.splitlines() if line)
            header = self._header(place.file, version)
            rows = csv.reader(io.StringIO(text, newline=""), strict=True)
            return tuple(
                {name: cell or None for name, cell in zip(header, row, strict=True)}
                for row in rows
                if row
            )
        except (ValueError, RecursionError, csv.Error) as exc:
            raise ItemError(Reason.ROW_UNREADABLE) from exc

    def _header(self, file: str, version: str | None) -> list[str]:
        key = (file, version)
        if key not in self._headers:
            data = self.reader.read_range(file, 0, _HEADER_BYTES, version)
            text = data.decode("utf-8-sig", errors="replace")
            rows = csv.reader(io.StringIO(text, newline=""), strict=True)
            self._headers[key] = next(rows, [])
        return self._headers[key]

    def _parquet(self, place: Place, version: str | None) -> tuple[Row, ...]:
        path = self.reader.checked_path(place.file, version)
        try:
            rows = _parquet_rows(str(path), version or "", place.start, place.stop)
        except (OSError, ValueError, IndexError) as exc:
            # pyarrow's own errors are ValueErrors and OSErrors.
            raise ItemError(Reason.ROW_UNREADABLE) from exc
        return tuple(
            {name: _plain(value) for name, value in row.items()} for row in rows
        )


def _json_row(line: str) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("A line is no object.")  # noqa: TRY004 - as JSON's own errors
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Return a cell as JSON knows it: no NaN, no NumPy, text for times and the like.

    An empty text is no value, as in CSV.
    """
    if value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _parquet_rows(path: str, version: str, start: int, stop: int) -> list[Row]:
    groups = _row_groups(path, version)
    found: list[Row] = []
    for number, (first, behind) in enumerate(groups):
        if first < stop and behind > start:
            rows = _row_group(path, version, number)
            found += rows.slice(
                max(start, first) - first, min(stop, behind) - max(start, first)
            ).to_pylist()
    if len(found) != stop - start:
        raise IndexError("The file has fewer rows.")
    return found


@lru_cache(maxsize=64)
def _row_groups(path: str, version: str) -> tuple[tuple[int, int], ...]:  # noqa: ARG001 - key of the cache
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as file:
        counts = [
            file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)
        ]
    bounds, first = [], 0
    for count in counts:
        bounds.append((first, first + count))
        first += count
    return tuple(bounds)


@lru_cache(maxsize=4)
def _row_group(path: str, version: str, number: int) -> Any:  # noqa: ARG001 - key of the cache
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as file:
        return file.read_row_group(number)


def is_record_file(source: str) -> bool:
    """Return whether rows of the file may be items, by its name."""
    name = source.rsplit("/", 1)[-1] if is_remote(source) else Path(source).name
    return Path(name).suffix.lower() in {".csv", ".jsonl", ".parquet"}

# SPDX-License-Identifier: Apache-2.0
"""The rows of a manifest file as text, whichever format it has.

Both readers stream: a few thousand rows are in memory at any time.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import SourceError

#: One row: a cell for each column asked for, None where there is no value.
Cells = tuple[str | None, ...]

_BATCH_ROWS = 2048
_BUFFER_BYTES = 1_048_576


def csv_columns(file: Path, where: str) -> list[str]:
    """Return the column names in a CSV file's first line."""
    with _open_text(file, where) as lines:
        return _header(_rows(lines, where), where)


def csv_cells(file: Path, columns: Sequence[str], where: str) -> Iterator[Cells]:
    """Yield the cells of each row; empty cells are None, empty lines are no rows.

    Raises:
        SourceError: the file is not CSV in UTF-8, or a row has too many or too few
            fields.
    """
    with _open_text(file, where) as lines:
        rows = _rows(lines, where)
        header = _header(rows, where)
        places = [header.index(name) for name in columns]
        number = 0
        for row in rows:
            if not row:
                continue
            number += 1
            if len(row) != len(header):
                raise SourceError(
                    f"Row {number} of {where} has {len(row)} fields but the header has"
                    f" {len(header)}; quote fields that hold a comma."
                )
            yield tuple(row[place] or None for place in places)


def _open_text(file: Path, where: str) -> TextIO:
    try:
        return file.open(encoding="utf-8-sig", newline="")
    except OSError as exc:
        raise SourceError(
            f"{where} cannot be opened ({exc.strerror}); check its permissions."
        ) from exc


def _rows(lines: Iterator[str], where: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, strict=True)
    try:
        yield from reader
    except UnicodeDecodeError as exc:
        raise SourceError(
            f"{where} is not UTF-8 after line {reader.line_num}; save it as UTF-8."
        ) from exc
    except csv.Error as exc:
        raise SourceError(
            f"{where} is not valid CSV near line {reader.line_num}: {exc}."
        ) from exc


def _header(rows: Iterator[list[str]], where: str) -> list[str]:
    header = next(rows, None)
    if not header:
        raise SourceError(f"{where} is empty; its first line must name the columns.")
    _refuse_doubles(header, where)
    return header


def _refuse_doubles(names: Sequence[str], where: str) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SourceError(f"{where} names the column {doubled[0]!r} twice; rename one.")


def parquet_columns(file: Path, where: str) -> list[str]:
    """Return the column names of a Parquet file."""
    with _open_parquet(file, where) as table, _readable(where):
        names = list(table.schema_arrow.names)
    _refuse_doubles(names, where)
    return names


def parquet_cells(file: Path, columns: Sequence[str], where: str) -> Iterator[Cells]:
    """Yield the cells of each row as text; nulls, NaN and empty text are None.

    Raises:
        SourceError: the file is not Parquet, its text is not UTF-8, or a column holds
            lists, structures or bytes.
    """
    with _open_parquet(file, where) as table:
        for name in columns:
            _refuse_nested(name, table.schema_arrow.field(name).type, where)
        # A file may be asked for one column in two roles.
        needed = list(dict.fromkeys(columns))
        with _readable(where):
            for batch in table.iter_batches(_BATCH_ROWS, columns=needed):
                values = {name: batch.column(name).to_pylist() for name in needed}
                for row in zip(*(values[name] for name in columns), strict=True):
                    yield tuple(text_of(value) for value in row)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """What pyarrow raises for rows that it cannot read comes out as SourceError."""
    try:
        yield
    except UnicodeDecodeError:
        # The cause would quote the text, which may be personal.
        raise SourceError(
            f"{where} holds text that is not UTF-8; write it again as UTF-8."
        ) from None
    except (pa.ArrowException, OSError, ValueError, OverflowError) as exc:
        raise SourceError(
            f"{where} cannot be read: it is damaged or holds values that are out of "
            "range; write it again."
        ) from exc


def _open_parquet(file: Path, where: str) -> pq.ParquetFile:
    try:
        # Pages are read as they are needed instead of whole row groups.
        return pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except UnicodeDecodeError:
        # Names of columns; the cause would quote them.
        raise SourceError(f"{where} is not a Parquet file that can be read.") from None
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise SourceError(f"{where} is not a Parquet file that can be read.") from exc


def _refuse_nested(name: str, kind: pa.DataType, where: str) -> None:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_nested(inner) or "binary" in str(inner):
        raise SourceError(
            f"Column {name!r} of {where} holds {inner} but text or numbers are needed."
        )


def text_of(value: object) -> str | None:
    """Return a cell as text: whole numbers without a point, no NaN."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124 - NaN, which tables use for "no value"
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)

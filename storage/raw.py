# SPDX-License-Identifier: Apache-2.0
"""Rows as they lie in the database, for checks that must survive what they find.

SQLite keeps whatever it is given in any column. Reading a row in the ordinary way would
end in an exception at the first such cell; here the cell is named, and the reader gets
a value of the right type in its place.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

import sqlalchemy as sa

from storage.tables import LedgerHeadTable, Table, WorkerTable

#: JSON columns that hold a list; all others hold an object.
_LISTS: Final = {(LedgerHeadTable, "frontier"), (WorkerTable, "roots")}


@dataclass(frozen=True, slots=True)
class BadCell:
    """A cell that does not hold what its column is for."""

    table: str
    column: str
    expected: str
    got: str


class _Stored(sa.types.UserDefinedType[Any]):
    """A column whose values come as the driver gives them."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "BLOB"


class _StoredJson(_Stored):
    """A JSON column; text that is no JSON stays text."""

    # SQLAlchemy looks for this in the class itself.
    cache_ok = True

    def result_processor(self, _dialect: Any, _kind: Any) -> Any:
        def parsed(value: Any) -> Any:
            # PostgreSQL's driver has parsed it already.
            if not isinstance(value, str):
                return value
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value

        return parsed


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    types: tuple[type, ...]
    neutral: Any
    json: bool

    def holds(self, value: Any) -> bool:
        return type(value) in self.types


@cache
def _columns(table: type[Table]) -> tuple[_Column, ...]:
    return tuple(_column(table, column) for column in table.__table__.columns)


def _column(table: type[Table], column: Any) -> _Column:
    kinds: list[tuple[type, tuple[type, ...], Any]] = [
        (sa.JSON, (list,) if (table, column.name) in _LISTS else (dict,), {}),
        (sa.LargeBinary, (bytes,), b""),
        (sa.Boolean, (bool, int), False),
        (sa.Integer, (int,), -1),
        (sa.Float, (float, int), 0.0),
        (sa.String, (str,), ""),
    ]
    types, neutral = next(
        (types, neutral)
        for kind, types, neutral in kinds
        if isinstance(column.type, kind)
    )
    if types == (list,):
        neutral = []
    if column.nullable:
        types, neutral = (*types, type(None)), None
    return _Column(column.name, types, neutral, isinstance(column.type, sa.JSON))


def raw_columns(table: type[Table]) -> list[sa.ColumnElement[Any]]:
    """Return the table's columns, to be selected without any conversion."""
    return [
        sa.type_coerce(
            table.__table__.c[column.name], _StoredJson() if column.json else _Stored()
        ).label(column.name)
        for column in _columns(table)
    ]


def checked_rows(
    table: type[Table], rows: Iterable[Any]
) -> Iterator[tuple[Any, list[BadCell]]]:
    """Yield each row of `raw_columns` with its bad cells, replaced by neutral values.

    A row has the table's columns as attributes, as an object of the table has.
    """
    columns = _columns(table)
    for row in rows:
        bad = [c for c, value in zip(columns, row, strict=True) if not c.holds(value)]
        if not bad:
            yield row, []
            continue
        values = dict(zip((c.name for c in columns), row, strict=True))
        cells = [
            BadCell(
                table=table.__tablename__,
                column=column.name,
                expected=column.types[0].__name__,
                got=type(values[column.name]).__name__,
            )
            for column in bad
        ]
        values |= {column.name: column.neutral for column in bad}
        yield SimpleNamespace(**values), cells

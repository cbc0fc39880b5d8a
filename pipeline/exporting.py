# SPDX-License-Identifier: Apache-2.0
"""A run's items and aggregates as CSV and Parquet; the ledger tells of it first.

Files are written beside their places and moved there whole, so that a stopped export
leaves none that is cut short.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.export_tables import AGGREGATE_SCHEMA, ItemColumns, aggregate_rows
from pipeline.gathering import as_item_row
from pipeline.item_listing import is_private, shown_uri
from pipeline.services import Services
from storage.item_listing import iterate_listed
from storage.manifests import iterate_groups
from storage.tables import RunTable

#: The files of an export, in the order in which they are written.
FILES = ("items.csv", "items.parquet", "aggregates.csv", "aggregates.parquet")
#: Rows in memory at a time.
_BATCH = 4096


def export_results(services: Services, run: RunTable, folder: Path) -> list[Path]:
    """Return the files of the folder, which hold the run's items and aggregates.

    Raises:
        OSError: the folder cannot be written to; nothing was recorded.
        ObjectNotFoundError: the run's report is not in the store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / f"{name}.partial").touch()
    report = _report(services, run)
    record_deed(
        services,
        Action.RESULTS_EXPORTED,
        f"run/{run.id}",
        details={"files": ", ".join(FILES)},
    )
    columns = ItemColumns.of(report, run.spec["data"]["columns"]["groups"])
    _write(folder, "items", columns.schema, _items(services, run, columns))
    _write(folder, "aggregates", AGGREGATE_SCHEMA, aggregate_rows(report))
    for name in FILES:
        (folder / f"{name}.partial").replace(folder / name)
    return [(folder / name).absolute() for name in FILES]


def _report(services: Services, run: RunTable) -> dict[str, Any]:
    key = (run.summary or {})["report"]["json"]
    with services.store.open(key) as stream:
        document: dict[str, Any] = json.loads(stream.read())
    return document


def _items(
    services: Services, run: RunTable, columns: ItemColumns
) -> Iterator[dict[str, Any]]:
    private = is_private(run)
    groups = iterate_groups(services.engine, run.id)
    index = -1
    own: dict[str, str] = {}
    for item in iterate_listed(services.engine, run.id):
        while index < item.item_index:
            index, own = next(groups)
        found = None if item.row is None else as_item_row(item.row, own)
        yield columns.row(item, found, shown_uri(item, private=private))


def _write(
    folder: Path, stem: str, schema: pa.Schema, rows: Iterable[dict[str, Any]]
) -> None:
    """Both forms of a table are in their partial files, from one pass over the rows."""
    with ExitStack() as stack:
        text = stack.enter_context(
            (folder / f"{stem}.csv.partial").open("w", encoding="utf-8", newline="")
        )
        table = stack.enter_context(
            pq.ParquetWriter(folder / f"{stem}.parquet.partial", schema)
        )
        writer = csv.DictWriter(text, schema.names)
        writer.writeheader()
        batch: list[dict[str, Any]] = []
        for row in rows:
            # repr of a float is the shortest text that gives the same float again.
            writer.writerow(
                {k: repr(v) if isinstance(v, float) else v for k, v in row.items()}
            )
            batch.append(row)
            if len(batch) == _BATCH:
                table.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = []
        table.write_table(pa.Table.from_pylist(batch, schema=schema))

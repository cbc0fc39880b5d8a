# SPDX-License-Identifier: Apache-2.0
"""From the `data` section of a spec to the source that it names."""

from collections.abc import Collection
from pathlib import Path

from explain.kinds import IMAGE
from pipeline.errors import SourceError
from pipeline.kinds.cards import KIND_CARDS
from pipeline.paths import AllowedRoots, is_remote
from pipeline.records import is_record_file
from pipeline.s3_objects import S3ClientFactory
from pipeline.sources.folder import FolderSource
from pipeline.sources.records import RecordSource, S3RecordSource
from pipeline.sources.s3 import S3PrefixSource, S3TableSource
from pipeline.sources.source import PICTURE_SUFFIXES, Source
from pipeline.sources.table import TABLE_SUFFIXES, TableSource
from pipeline.spec import DataSpec


def open_source(
    data: DataSpec,
    *,
    base: Path,
    roots: AllowedRoots,
    s3_client: S3ClientFactory | None = None,
    label_wanted: bool = False,
) -> Source:
    """Return the source that the spec names; nothing has been listed yet.

    Args:
        data: The spec's `data` section.
        base: The spec's folder, from which relative paths count.
        roots: The folders that local sources must lie under.
        s3_client: Makes an S3 client; needed for s3:// sources only.
        label_wanted: Whether `labels: auto` takes the first subfolder as the label,
            which it does when the audit explains the label.

    Raises:
        SourceError: there is no such folder or file, or it is of no known kind.
        PathEscapeError: it lies outside the allowed roots.
    """
    labelled = data.labels == "folders" or (data.labels == "auto" and label_wanted)
    if is_remote(data.source):
        return _open_remote(data, roots, s3_client, labelled=labelled)
    path = roots.resolve(data.source, base=base)
    _require_rows(data)
    if path.is_dir():
        return FolderSource(path, roots, labelled, _suffixes(data))
    if not path.exists():
        raise SourceError(
            f"There is no file or folder {data.source!r} (data.source, looked for at"
            f" {path}); paths count from the spec's folder."
        )
    if path.is_file() and rows_are_items(data):
        return RecordSource(path, data.columns)
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        raise SourceError(
            f"data.source {data.source!r} is neither a folder nor a .csv or .parquet"
            f" manifest nor an s3:// address{_or_rows(data)}; name one of these."
        )
    return TableSource(path, data.columns, roots)


def _open_remote(
    data: DataSpec,
    roots: AllowedRoots,
    s3_client: S3ClientFactory | None,
    *,
    labelled: bool,
) -> Source:
    if s3_client is None:
        raise SourceError(
            f"data.source {data.source!r} is in S3 but no S3 connection is set up; set"
            " the object store's address and credentials."
        )
    if rows_are_items(data):
        if data.source.lower().endswith(".parquet"):
            raise SourceError(
                f"data.source {data.source!r}: rows of a Parquet file in S3 cannot be"
                " read one by one; give a CSV or JSON lines file, or a local copy."
            )
        return S3RecordSource(data.source, data.columns, s3_client)
    if data.source.lower().endswith(TABLE_SUFFIXES):
        return S3TableSource(data.source, data.columns, roots, s3_client)
    return S3PrefixSource(data.source, s3_client, labelled, _suffixes(data))


def rows_are_items(data: DataSpec) -> bool:
    """Return whether the source is a table of which each row is an item, or a step."""
    if data.kind == IMAGE or not is_record_file(data.source):
        return False
    if data.source.lower().endswith(".jsonl"):
        return True
    column = KIND_CARDS[data.kind].column
    return column is not None and bool(getattr(data.columns, column))


def _require_rows(data: DataSpec) -> None:
    """A kind whose items are rows alone must say which columns they are made of.

    Raises:
        SourceError: it does not.
    """
    if data.kind == IMAGE:
        return
    card = KIND_CARDS[data.kind]
    if card.suffixes or card.column is None or getattr(data.columns, card.column):
        return
    raise SourceError(
        f"data.columns.{card.column}: name what an item of kind {data.kind} is made of;"
        " its items are the rows of the table."
    )


def _suffixes(data: DataSpec) -> Collection[str]:
    """Return the suffixes of files that are items."""
    if data.kind == IMAGE:
        return PICTURE_SUFFIXES
    return KIND_CARDS[data.kind].suffixes


def _or_rows(data: DataSpec) -> str:
    """Return what else a source of this kind may be, in words."""
    if data.kind == IMAGE:
        return ""
    column = KIND_CARDS[data.kind].column
    if column is None:
        return " nor a .jsonl file"
    return f" nor a .csv, .jsonl or .parquet file with data.columns.{column}"

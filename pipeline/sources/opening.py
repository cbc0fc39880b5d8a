# SPDX-License-Identifier: Apache-2.0
"""From the `data` section of a spec to the source that it names."""

from pathlib import Path

from pipeline.errors import SourceError
from pipeline.paths import AllowedRoots, is_remote
from pipeline.s3_objects import S3ClientFactory
from pipeline.sources.folder import FolderSource
from pipeline.sources.s3 import S3PrefixSource, S3TableSource
from pipeline.sources.source import Source
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
    if path.is_dir():
        return FolderSource(path, roots, labelled)
    if not path.exists():
        raise SourceError(
            f"There is no file or folder {data.source!r} (data.source, looked for at"
            f" {path}); paths count from the spec's folder."
        )
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        raise SourceError(
            f"data.source {data.source!r} is neither a folder nor a .csv or .parquet"
            " manifest nor an s3:// address; name one of these."
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
    if data.source.lower().endswith(TABLE_SUFFIXES):
        return S3TableSource(data.source, data.columns, roots, s3_client)
    return S3PrefixSource(data.source, s3_client, labelled)

# SPDX-License-Identifier: Apache-2.0
"""Pictures under an S3 prefix, and manifests that lie in S3."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from pipeline.domain import SourceItem
from pipeline.paths import AllowedRoots
from pipeline.s3_objects import (
    S3_FAILURES,
    S3ClientFactory,
    etag_version,
    split_s3_uri,
)
from pipeline.sources.fetching import fetch_object, listing_failure
from pipeline.sources.sorting import Entry, sorted_entries
from pipeline.sources.source import (
    PICTURE_SUFFIXES,
    folder_label,
    is_item_path,
    refuse_empty,
)
from pipeline.sources.table import TableSource
from pipeline.spec import ColumnsSpec


@dataclass(frozen=True, slots=True)
class S3PrefixSource:
    """Every picture under a prefix, in byte order of the key.

    The prefix is taken as a folder: `s3://bucket/photos` does not list `photos2/`.
    The version of an item is its ETag; a listing carries no version ids.

    Attributes:
        uri: `s3://bucket/prefix`.
        s3_client: Makes the client.
        labelled: Whether the first part of the key below the prefix is the label.
        suffixes: Of the objects that are items.
    """

    uri: str
    s3_client: S3ClientFactory
    labelled: bool = False
    suffixes: Collection[str] = PICTURE_SUFFIXES

    @property
    def kind(self) -> str:
        """What sort of source it is."""
        return "s3"

    def items(self) -> Iterator[SourceItem]:
        """Yield every picture in byte order of its key.

        Raises:
            SourceError: no such bucket, no leave to list it, or no picture in it.
            InfrastructureError: the object store is away.
        """
        bucket, prefix = split_s3_uri(self.uri.rstrip("/"))
        prefix = f"{prefix}/" if prefix else ""
        # Some servers list folder by folder, which is not the order of the keys.
        entries = sorted_entries(self._entries(bucket, prefix))
        return refuse_empty(
            (self._item(f"s3://{bucket}/{prefix}", entry) for entry in entries),
            f"{self.uri} holds no picture (looked for .jpg, .png, .webp, .tif, .bmp"
            " and .gif under it)",
        )

    def _item(self, parent: str, entry: Entry) -> SourceItem:
        relative = entry.path.decode("utf-8")
        return SourceItem(
            uri=parent + relative,
            size_bytes=entry.size_bytes,
            version=entry.version,
            label=folder_label(relative) if self.labelled else None,
        )

    def _entries(self, bucket: str, prefix: str) -> Iterator[Entry]:
        pages = self.s3_client().get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    relative = found["Key"].removeprefix(prefix)
                    if is_item_path(relative, self.suffixes):
                        yield Entry(
                            relative.encode("utf-8"),
                            found["Size"],
                            etag_version(found.get("ETag")),
                        )
        except S3_FAILURES as exc:
            raise listing_failure(exc, self.uri) from exc


@dataclass(frozen=True, slots=True)
class S3TableSource:
    """A manifest file in S3; relative paths in it count from its own prefix.

    Attributes:
        uri: `s3://bucket/key` of a .csv or .parquet file.
        columns: Which column means what.
        roots: Folders that local rows may be looked for in.
        s3_client: Makes the client.
    """

    uri: str
    columns: ColumnsSpec
    roots: AllowedRoots
    s3_client: S3ClientFactory

    @property
    def kind(self) -> str:
        """What sort of source it is."""
        return PurePosixPath(self.uri).suffix.lower().removeprefix(".")

    def items(self) -> Iterator[SourceItem]:
        """Yield one item a row, in the order of the file.

        Raises:
            SourceError: the manifest is missing or wrong.
            InfrastructureError: the object store is away.
        """
        with TemporaryDirectory(prefix="affidavit-manifest-") as folder:
            file = Path(folder) / f"manifest.{self.kind}"
            fetch_object(self.s3_client(), self.uri, file)
            yield from TableSource(file, self.columns, self.roots, self.uri).items()

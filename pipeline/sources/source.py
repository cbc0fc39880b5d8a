# SPDX-License-Identifier: Apache-2.0
"""What every data source offers, and what all of them understand by a picture."""

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Protocol

from pipeline.domain import SourceItem
from pipeline.errors import SourceError

#: Files with other suffixes are not items of a folder or prefix.
PICTURE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
    }
)


class Source(Protocol):
    """A data source that can be listed any number of times."""

    @property
    def kind(self) -> str:
        """What sort of source it is: folder, csv, parquet or s3 (a prefix)."""
        ...

    def items(self) -> Iterator[SourceItem]:
        """Yield every item, in an order that depends on the data alone.

        Raises:
            SourceError: the source cannot be listed, or holds no item.
            InfrastructureError: the server that holds the source is away.
        """
        ...


def is_item_path(relative: str, suffixes: Collection[str] = PICTURE_SUFFIXES) -> bool:
    """Return whether a relative path has such a suffix and nothing in it is hidden."""
    path = PurePosixPath(relative)
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix.lower() in suffixes


def folder_label(relative: str) -> str | None:
    """Return the first subfolder of a relative path, or None at the top level."""
    first, slash, _ = relative.partition("/")
    return first if slash else None


def refuse_empty(items: Iterable[SourceItem], what: str) -> Iterator[SourceItem]:
    """Yield the items, and raise SourceError if there was none."""
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        raise SourceError(f"{what}; an audit needs at least one item.")


def require_column(role: str, name: str, columns: Iterable[str], where: str) -> None:
    """Raise SourceError unless the column is there, naming those that are."""
    known = list(columns)
    if name in known:
        return
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SourceError(
        f"{where} has no column {name!r} (data.columns.{role}).{hint} It has"
        f" {', '.join(known) or 'none'}."
    )

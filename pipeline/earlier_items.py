# SPDX-License-Identifier: Apache-2.0
"""What earlier runs know of items, looked up by where the items are.

It lies in a temporary SQLite file, so that memory stays the same however many items
there are, whatever the installation's database is. The file is readable by nobody else
and goes when it is closed: it holds URIs.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True, slots=True)
class EarlierItem:
    """An item as the newest run that had it knows it.

    Attributes:
        is_done: Whether it was explained.
    """

    uri: str
    size_bytes: int | None
    version: str | None
    label: str | None
    mask_uri: str | None
    is_done: bool
    input_sha256: str | None
    truth_sha256: str | None


_COLUMNS = "uri, size, version, label, mask_uri, is_done, input, truth"


class EarlierItems:
    """The items of earlier runs, each as the newest of them knows it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("PRAGMA journal_mode=OFF")
        database.execute("PRAGMA synchronous=OFF")
        database.execute(
            "CREATE TABLE items (uri TEXT PRIMARY KEY, size INT, version TEXT, "
            "label TEXT, mask_uri TEXT, is_done INT, input TEXT, truth TEXT, "
            "is_listed INT DEFAULT 0) WITHOUT ROWID"
        )

    def take(self, items: Iterable[EarlierItem]) -> None:
        """What these say replaces what earlier ones said of the same URIs."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (
                (
                    item.uri,
                    item.size_bytes,
                    item.version,
                    item.label,
                    item.mask_uri,
                    item.is_done,
                    item.input_sha256,
                    item.truth_sha256,
                )
                for item in items
            ),
        )
        self._database.execute("COMMIT")

    def listed(self, uris: Sequence[str]) -> dict[str, EarlierItem]:
        """Return what is known of these URIs, which are listed now."""
        marks = ",".join("?" * len(uris))
        # The marks are question marks alone; values are bound.
        self._database.execute(
            f"UPDATE items SET is_listed = 1 WHERE uri IN ({marks})",  # noqa: S608
            uris,
        )
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM items WHERE uri IN ({marks})",  # noqa: S608
            uris,
        )
        return {row[0]: EarlierItem(*row) for row in rows}

    def unlisted(self) -> int:
        """Return how many known items were not listed."""
        row = self._database.execute("SELECT COUNT(*) FROM items WHERE is_listed = 0")
        return int(row.fetchone()[0])


@contextmanager
def open_earlier_items() -> Iterator[EarlierItems]:
    """An empty collection, gone when the block ends."""
    with TemporaryDirectory(prefix="affidavit-earlier-") as folder:
        # The listing may be made in one thread and consumed in another.
        file = Path(folder) / "earlier.sqlite"
        database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        with closing(database):
            yield EarlierItems(database)

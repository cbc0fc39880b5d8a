# SPDX-License-Identifier: Apache-2.0
"""Sorting more file names than memory should hold."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple


class Entry(NamedTuple):
    """One file of a listing: path below the source, size, version."""

    path: bytes
    size_bytes: int | None
    version: str | None


def sorted_entries(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries in byte order of their paths.

    They pass through a temporary SQLite file, which sorts on disk, so that memory stays
    the same however many there are.
    """
    with TemporaryDirectory(prefix="affidavit-listing-") as folder:
        file = Path(folder) / "listing.sqlite"
        # The listing may be made in one thread and consumed in another.
        database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        with closing(database):
            database.execute("PRAGMA journal_mode=OFF")
            database.execute("PRAGMA synchronous=OFF")
            database.execute("CREATE TABLE entries (path BLOB, size INT, version TEXT)")
            database.execute("BEGIN")
            database.executemany("INSERT INTO entries VALUES (?, ?, ?)", entries)
            database.execute("COMMIT")
            rows = database.execute("SELECT * FROM entries ORDER BY path")
            for row in rows:
                yield Entry(*row)

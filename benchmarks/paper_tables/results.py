# SPDX-License-Identifier: Apache-2.0
"""Rows as they are measured, kept in a file, so that a stopped run goes on."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class OutOfTimeError(Exception):
    """The minutes that the run was given are over; what was measured is kept."""


@dataclass(slots=True)
class Results:
    """All rows by table and name.

    Attributes:
        path: Where they are kept, or None to keep none.
        about: What all rows share: frames, versions, rounds. Rows of another setting
            are not taken over.
        until: ``time.monotonic()`` after which no new row is begun, or None.
        tables: Rows by name, by table.
    """

    path: Path | None
    about: Mapping[str, Any]
    until: float | None = None
    tables: dict[str, dict[str, Row]] = field(default_factory=dict)

    def load(self) -> None:
        """Take over the rows that an earlier run of the same setting kept."""
        if self.path is None or not self.path.is_file():
            return
        document = json.loads(self.path.read_text())
        if document.get("about") == dict(self.about):
            self.tables = document["tables"]
        else:
            print(f"{self.path} is of another setting; its rows are measured anew.")

    def row(self, table: str, name: str, measure: Callable[[], Row]) -> Row:
        """Return a row, measured unless it is there.

        Raises:
            OutOfTimeError: it is not there and the time is over.
        """
        rows = self.tables.setdefault(table, {})
        if name not in rows:
            if self.until is not None and time.monotonic() > self.until:
                raise OutOfTimeError
            begun = time.monotonic()
            rows[name] = measure()
            print(f"  {name}: {time.monotonic() - begun:.0f} s", flush=True)
            self._keep()
        return rows[name]

    def _keep(self) -> None:
        if self.path is None:
            return
        document = {"about": dict(self.about), "tables": self.tables}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(document, indent=2) + "\n")
        part.replace(self.path)

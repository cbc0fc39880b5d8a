# SPDX-License-Identifier: Apache-2.0
"""A run's rows beside the groups that their items belong to."""

from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from storage.manifests import iterate_groups
from storage.tables import ItemTable

_NONE: Mapping[str, str] = {}


def with_groups(
    engine: sa.Engine, run_id: str, rows: Iterator[ItemTable], *, wanted: bool
) -> Iterator[tuple[ItemTable, Mapping[str, str]]]:
    """Yield each row with its item's group values, or tokens of them.

    Both come in manifest order, so that neither is held in memory.

    Args:
        engine: The database.
        run_id: The run.
        rows: Its rows in manifest order.
        wanted: Whether the audit names any group; otherwise nothing is read.
    """
    if not wanted:
        yield from ((row, _NONE) for row in rows)
        return
    manifest = iterate_groups(engine, run_id)
    index, groups = -1, _NONE
    for row in rows:
        while index < row.item_index:
            index, groups = next(manifest, (row.item_index, _NONE))
        yield row, groups

# SPDX-License-Identifier: Apache-2.0
"""A run's items as a list to hand out; that it was read is itself recorded."""

from collections.abc import Iterator
from typing import Any

from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.services import Services
from storage.errors import UnknownRunError
from storage.item_listing import NAMED, ListedItem, find_by_name, iterate_listed
from storage.tables import LocationTable, RunTable

#: Status of an item whose shard is not done: it waits, or its shard is dead.
MISSING = "missing"


def read_items(
    services: Services, run: RunTable, *, failed: bool = False
) -> Iterator[dict[str, Any]]:
    """Return the run's items one by one; the ledger already tells of the reading.

    Args:
        services: The database.
        run: The run.
        failed: Only the items that failed.
    """
    which = "failed" if failed else "all"
    record_deed(
        services, Action.RESULTS_READ, f"run/{run.id}", details={"items": which}
    )
    private = is_private(run)
    listed = iterate_listed(services.engine, run.id, failed=failed)
    return (_values(item, private=private) for item in listed)


def is_private(run: RunTable) -> bool:
    """Return whether the run's items are about persons, so that tokens name them.

    A spec that does not say counts as one that does.
    """
    columns = run.spec.get("data", {}).get("columns", {})
    return "subject" not in columns or columns["subject"] is not None


def shown_uri(item: ListedItem, *, private: bool) -> str:
    """Return what may be told of where an item is: its URI, or its token."""
    return item.item_id if private else item.uri


def _values(item: ListedItem, *, private: bool) -> dict[str, Any]:
    row = item.row
    return {
        "item_index": item.item_index,
        "item_id": item.item_id,
        "uri": shown_uri(item, private=private),
        "status": row.status if row is not None else MISSING,
        "reason": row.reason if row is not None else None,
        "predicted": row.predicted if row is not None else None,
        "target": row.target if row is not None else None,
        "label": row.label if row is not None else None,
        "score": row.score if row is not None else None,
    }


def item_named(services: Services, run: RunTable, name: str) -> LocationTable | None:
    """Return the one item whose file has that name, None where none has.

    Names of a private run's files are not asked for: whether one is there is itself
    something about a person.

    Raises:
        UnknownRunError: several items have it.
    """
    if not name or is_private(run):
        return None
    found = find_by_name(services.engine, run.id, name)
    if len(found) > 1:
        places = ", ".join(str(row.item_index) for row in found[:NAMED])
        more = " and more" if len(found) > NAMED else ""
        raise UnknownRunError(
            f"Several items of run {run.id} are called '{name}' (items {places}{more});"
            " give one of these numbers, or more of the path."
        )
    return found[0] if found else None

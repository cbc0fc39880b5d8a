# SPDX-License-Identifier: Apache-2.0
"""Which item of a run a person means: by index, by id or by its file's name."""

from pipeline.item_listing import item_named
from pipeline.services import Services
from storage.errors import UnknownRunError
from storage.manifests import find_location
from storage.tables import LocationTable, RunTable


def require_item(services: Services, run: RunTable, item: str) -> LocationTable:
    """Return the row of the item with that index, id or file name.

    Raises:
        UnknownRunError: the run has no such item, or several of that name.
    """
    location = find_location(services.engine, run.id, item)
    if location is None:
        location = item_named(services, run, item)
    if location is None:
        raise UnknownRunError(
            f"The run {run.id} has no item '{item}'; items are counted from 0 to "
            f"{run.items_total - 1}."
        )
    return location

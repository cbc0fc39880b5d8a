# SPDX-License-Identifier: Apache-2.0
"""What a report may call items: a file's name, or a token where persons are meant."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from pipeline.item_row import ItemRow
from pipeline.reports.inputs import FailedItem
from pipeline.services import Services
from pipeline.spec import AuditSpec
from storage.manifests import find_location


def item_names(
    services: Services, run_id: str, spec: AuditSpec, indices: Sequence[int]
) -> dict[int, str]:
    """Return what the report may call items: a file's name, or the token."""
    names: dict[int, str] = {}
    for index in indices:
        location = find_location(services.engine, run_id, str(index))
        if location is not None:
            private = spec.has_subjects
            names[index] = (
                location.item_id if private else PurePosixPath(location.uri).name
            )
    return names


def failed_items(
    services: Services, run_id: str, spec: AuditSpec, rows: Sequence[ItemRow]
) -> list[FailedItem]:
    """Return failed items as the report lists them."""
    names = item_names(services, run_id, spec, [row.item_index for row in rows])
    return [
        FailedItem(
            item_index=row.item_index,
            item_id=row.item_id,
            name=names.get(row.item_index, row.item_id),
            reason=row.reason or "unknown",
        )
        for row in rows
    ]

# SPDX-License-Identifier: Apache-2.0
"""The pictures of a run's explanations, whatever the kind of its items.

No torch: pages are made by processes that do not import it.
"""

from functools import cached_property

from explain.kinds import IMAGE, TABLE
from pipeline.domain import ItemResult
from pipeline.errors import InfrastructureError, ItemError
from pipeline.kinds.kind import DataKind, UnitMap, open_kind
from pipeline.kinds.table import TableKind
from pipeline.labels import ClassNames
from pipeline.records import Record, RecordReader
from pipeline.reports.inputs import GalleryMode, Picture
from pipeline.reports.pictures import encoded
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.spec import AuditSpec
from pipeline.stored_items import map_of, mask_of, pixels_of
from pipeline.table_reasons import TableReason
from storage.manifests import find_location
from storage.tables import LocationTable, RunTable


class ItemPictures:
    """Draws the items of one run.

    Args:
        services: How inputs are reached.
        run: The run.
        mode: What may be shown.
    """

    def __init__(self, services: Services, run: RunTable, mode: GalleryMode) -> None:
        self._services = services
        self._run_id = run.id
        self._mode: GalleryMode = mode
        self._spec = AuditSpec.model_validate(run.spec)
        self._plan = RunPlan.from_json(run.plan)
        self._reader = services.reader(services.roots_noted(self._plan.roots))

    def of(self, result: ItemResult) -> list[Picture]:
        """Return the pictures that may be shown of an item, none of a failed one."""
        if self._mode == "none" or not result.map_bytes:
            return []
        location = self._location(result)
        if self._plan.kind != IMAGE:
            return self._kind.draw(self.unit_map(result), self._record(location))
        pixels = pixels_of(
            result, location, spec=self._spec, plan=self._plan, reader=self._reader
        )
        return encoded(pixels, self._mode if pixels.image is not None else "maps")

    def reasons(self, result: ItemResult) -> tuple[TableReason, ...] | None:
        """Return the reasons of a table's row that may be shown, None of other items.

        Cells are with them where the item itself may be shown.
        """
        if self._mode == "none" or not result.map_bytes:
            return None
        kind: object = self._kind if self._plan.kind == TABLE else None
        if not isinstance(kind, TableKind):
            return None
        return kind.reasons(self.unit_map(result), self._record(self._location(result)))

    def _location(self, result: ItemResult) -> LocationTable | None:
        """Return where the item lies, None where it may not be shown."""
        if self._mode != "images":
            return None
        return find_location(
            self._services.engine, self._run_id, str(result.item_index)
        )

    def unit_map(self, result: ItemResult) -> UnitMap:
        """Return the explanation of an item that is no image."""
        names = ClassNames(self._plan.classes, count=self._plan.class_count)
        return UnitMap(
            values=map_of(result),
            mask=mask_of(result, (result.map_height, result.map_width)),
            result=result,
            target="" if result.target is None else names.name_of(result.target),
        )

    @cached_property
    def _kind(self) -> DataKind:
        return open_kind(self._spec)

    @cached_property
    def _records(self) -> RecordReader:
        return RecordReader(self._reader)

    def _record(self, location: LocationTable | None) -> Record | None:
        if location is None:
            return None
        try:
            return self._records.read(
                location.uri, location.size_bytes, location.version
            )
        except (ItemError, InfrastructureError):
            # The report is about the explanation; a lost file does not stop it.
            return None

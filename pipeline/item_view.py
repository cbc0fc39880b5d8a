# SPDX-License-Identifier: Apache-2.0
"""One item for a person: its picture, its numbers and where its evidence is."""

from dataclasses import dataclass
from typing import Any

from explain.kinds import IMAGE
from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.domain import ItemResult
from pipeline.item_finding import require_item
from pipeline.item_pictures import ItemPictures
from pipeline.labels import ClassNames
from pipeline.reports.formats import number
from pipeline.reports.item_page import item_page
from pipeline.reports.pictures import panel_png
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.spec import AuditSpec, Gallery
from pipeline.stored_items import ItemLookup, pixels_of
from storage.errors import StateConflictError
from storage.items import find_items
from storage.runs import list_shards
from storage.tables import LocationTable, RunTable, ShardTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemView:
    """What `affidavit show` prints, and the picture of the explanation, if any.

    Attributes:
        document: The numbers.
        picture: PNG bytes of an image's overlay, or the HTML page of another kind.
        suffix: Of the picture's file.
    """

    document: dict[str, Any]
    picture: bytes | None
    suffix: str


def view_item(services: Services, run: RunTable, item: str) -> ItemView:
    """Return the view of an item; that it was looked at is recorded.

    Raises:
        UnknownRunError: the run has no such item, or several of that name.
        StateConflictError: its shard is not done yet.
    """
    location = require_item(services, run, item)
    lookup = ItemLookup(services, list_shards(services.engine, run.id))
    result = lookup.find(location.item_index)
    if result is None:
        raise StateConflictError(
            f"Item {location.item_index} is not explained yet; its shard is "
            f"{lookup.shard_of(location.item_index).state}."
        )
    document = _document(
        services, run, location, result, lookup.shard_of(location.item_index)
    )
    record_deed(services, Action.ITEM_READ, f"run/{run.id}/item/{location.item_id}")
    if RunPlan.from_json(run.plan).kind != IMAGE:
        document |= _reasons(services, run, result)
        page = _page(services, run, document, result)
        return ItemView(document=document, picture=page, suffix=".html")
    png = _png(services, run, location, result)
    return ItemView(document=document, picture=png, suffix=".png")


def _document(
    services: Services,
    run: RunTable,
    location: LocationTable,
    result: ItemResult,
    shard: ShardTable,
) -> dict[str, Any]:
    names = ClassNames(run.plan["classes"], count=run.plan["class_count"])
    rows = find_items(services.engine, run.id, result.item_index)

    def named(index: int | None) -> str | None:
        if index is None or not names.names:
            return None if index is None else str(index)
        return f"{index} {names.name_of(index)}"

    return {
        "run": run.id,
        "item_index": result.item_index,
        "item_id": location.item_id,
        "uri": result.uri,
        "input_sha256": result.input_sha256,
        "truth_sha256": result.truth_sha256,
        "status": result.status.value,
        "reason": result.reason.value if result.reason else None,
        "method": result.method,
        "policy": result.policy,
        "predicted": result.predicted,
        "predicted_name": named(result.predicted),
        "target": result.target,
        "target_name": named(result.target),
        "label": result.label,
        "label_name": named(result.label),
        "score": result.score,
        "keep_requested": result.keep_requested,
        "keep_achieved": result.keep_achieved,
        "cut": result.cut,
        "map_size": [result.map_height, result.map_width],
        "metrics": dict(result.metrics),
        "absences": dict(result.absences),
        "evidence": {
            "artifact": shard.object_key,
            "artifact_sha256": shard.sha256,
            "shard": shard.shard_index,
            "record_digest": rows[0].record_digest.hex() if rows else None,
            "ledger_object": f"run/{run.id}/shard/{shard.shard_index}",
        },
        "overlay": None,
    }


def _png(
    services: Services, run: RunTable, location: LocationTable, result: ItemResult
) -> bytes | None:
    spec = AuditSpec.model_validate(run.spec)
    plan = RunPlan.from_json(run.plan)
    if not result.map_bytes or spec.gallery == "none" or plan.kind != IMAGE:
        return None
    shown = location if spec.gallery == "images" else None
    reader = services.reader(services.roots_noted(plan.roots))
    pixels = pixels_of(result, shown, spec=spec, plan=plan, reader=reader)
    names = ClassNames(plan.classes, count=plan.class_count)
    target = "no target" if result.target is None else names.name_of(result.target)
    caption = [
        f"Item {result.item_index}: {target}, score {number(result.score)}",
        ", ".join([_method(result, plan), result.policy, f"run {run.id}"]),
        "  ".join(f"{k} {number(v)}" for k, v in sorted(result.metrics.items())),
    ]
    mode: Gallery = "images" if pixels.image is not None else "maps"
    return panel_png(pixels, mode, caption)


def _page(
    services: Services, run: RunTable, document: dict[str, Any], result: ItemResult
) -> bytes | None:
    spec = AuditSpec.model_validate(run.spec)
    pictures = ItemPictures(services, run, spec.gallery).of(result)
    return item_page(document, pictures) if pictures else None


def _reasons(services: Services, run: RunTable, result: ItemResult) -> dict[str, Any]:
    """Return the reasons of a table's row, nothing of other items."""
    spec = AuditSpec.model_validate(run.spec)
    found = ItemPictures(services, run, spec.gallery).reasons(result)
    return {} if found is None else {"reasons": [one.document() for one in found]}


def _method(result: ItemResult, plan: RunPlan) -> str:
    return f"{result.method} at {plan.layer}" if plan.layer else result.method

# SPDX-License-Identifier: Apache-2.0
"""Fitting a keep-fraction a class on the stored maps of a run that has masks.

Nothing is explained again: maps come from the artifacts, ground truths from the masks
of the manifest. The reading is one ledger entry, made before anything is handed out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from explain.numpy_maps import upsample
from explain.thresholds.calibration import Calibration, fit_table
from explain.thresholds.sweep import PERCENTS, sweep_fractions
from ledger.entries import Action
from pipeline.domain import ItemResult
from pipeline.errors import SourceError
from pipeline.labels import ClassNames
from pipeline.memory_budget import MemoryBudget
from pipeline.packing import read_artifact
from pipeline.preparing import ItemPreparer
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.shard_reading import open_artifact
from pipeline.shard_work import as_manifest_item
from pipeline.spec import AuditSpec
from pipeline.stored_items import map_of
from storage.engine import transaction
from storage.events import record
from storage.manifests import read_locations
from storage.runs import list_shards
from storage.states import ItemStatus, ShardState
from storage.tables import RunTable, ShardTable

#: More items make the fractions no better; they are taken evenly over the manifest.
MOST_ITEMS = 20_000
#: Maps that are swept at once.
BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """One explained item with its ground truth, both at the input's size."""

    attribution: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]
    target: int


def calibrate(
    services: Services,
    run: RunTable,
    *,
    min_items: int = 5,
    on_items: Callable[[int], None] = lambda _count: None,
) -> Calibration:
    """Return the fractions that gave each class the highest mean IoU.

    Args:
        services: Database, store and settings.
        run: A run with masks, of any method and policy.
        min_items: Classes with fewer items with masks share the pooled fraction.
        on_items: Told how many more items were looked at.

    Raises:
        SourceError: no item of the run has both a map and a mask.
    """
    with transaction(services.engine) as session:
        record(
            session,
            Action.RESULTS_READ,
            f"run/{run.id}",
            actor=services.actor,
            details={"purpose": "calibration"},
        )
    tables: list[npt.NDArray[np.float64]] = []
    classes: list[int] = []
    for batch in _batches(_marked(services, run, on_items)):
        tables.append(_iou(batch))
        classes += [item.target for item in batch]
    if not classes:
        raise SourceError(
            f"No item of the run {run.id} has both a map and a ground truth mask; name "
            "a column of masks under data.columns.mask and run the audit again."
        )
    plan = RunPlan.from_json(run.plan)
    return fit_table(
        np.concatenate(tables), classes, PERCENTS, min_items=min_items, seed=plan.seed
    )


def _iou(batch: Sequence[_Marked]) -> npt.NDArray[np.float64]:
    """Return each item's IoU at each fraction, NaN where the truth marks nothing."""
    maps = torch.from_numpy(np.stack([item.attribution for item in batch]))
    truths = torch.from_numpy(np.stack([item.truth for item in batch]))
    swept = sweep_fractions(maps, truths, PERCENTS)
    empty = (swept.truth_sizes == 0)[:, None]
    found: npt.NDArray[np.float64] = swept.iou.masked_fill(empty, torch.nan).numpy()
    return found


def _batches(items: Iterator[_Marked]) -> Iterator[list[_Marked]]:
    waiting: list[_Marked] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _marked(
    services: Services, run: RunTable, on_items: Callable[[int], None]
) -> Iterator[_Marked]:
    """Yield the explained items that have a mask, evenly over the manifest."""
    plan = RunPlan.from_json(run.plan)
    preparer = _preparer(services, run, plan)
    size = (plan.input_shape[1], plan.input_shape[2])
    step = -(-run.items_total // MOST_ITEMS)
    for shard in list_shards(services.engine, run.id):
        if shard.state != ShardState.DONE or shard.object_key is None:
            continue
        explained = _explained(services, shard)
        for row in read_locations(
            services.engine,
            run.id,
            first_item=shard.first_item,
            item_count=shard.item_count,
        ):
            on_items(1)
            result = explained.get(row.item_index)
            if result is None or not row.mask_uri or row.item_index % step:
                continue
            prepared = preparer.prepare(as_manifest_item(row))
            if prepared.truth is None or result.target is None:
                continue
            yield _Marked(
                attribution=upsample(map_of(result)[None], size)[0],
                truth=prepared.truth,
                target=result.target,
            )


def _explained(services: Services, shard: ShardTable) -> dict[int, ItemResult]:
    """Return the shard's explanations by index, failed items left out."""
    with open_artifact(services.store, str(shard.object_key)) as stream:
        return {
            result.item_index: result
            for result in read_artifact(stream)
            if result.status is ItemStatus.DONE
        }


def _preparer(services: Services, run: RunTable, plan: RunPlan) -> ItemPreparer:
    spec = AuditSpec.model_validate(run.spec)
    return ItemPreparer(
        reader=services.reader(services.roots_noted(plan.roots)),
        preprocess=spec.model.preprocess,
        classes=ClassNames(plan.classes, count=plan.class_count),
        label_required=False,
        strict_labels=False,
        budget=MemoryBudget(services.settings.decoding_bytes),
    )

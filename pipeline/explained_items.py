# SPDX-License-Identifier: Apache-2.0
"""The explained items of a stored run, read back with their inputs.

For what is fitted on earlier runs: nothing is explained again. Whoever reads records
the deed first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explain.kinds import IMAGE
from explain.numpy_maps import upsample
from pipeline.domain import ItemResult
from pipeline.errors import SpecError
from pipeline.labels import ClassNames
from pipeline.manifest_slice import as_manifest_item
from pipeline.memory_budget import MemoryBudget
from pipeline.packing import read_artifact
from pipeline.preparing import ItemPreparer, PreparedItem
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.shard_reading import open_artifact
from pipeline.spec import AuditSpec
from pipeline.stored_items import map_of
from storage.manifests import read_locations
from storage.runs import list_shards
from storage.states import ItemStatus, ShardState
from storage.tables import LocationTable, RunTable, ShardTable

#: More items make no fit better; they are taken evenly over the manifest.
MOST_ITEMS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedItem:
    """One done item: its row, its input, and its map enlarged to the input's size.

    Shape: attribution (H, W) float32.
    """

    result: ItemResult
    prepared: PreparedItem
    attribution: npt.NDArray[np.float32]


def explained_items(
    services: Services,
    run: RunTable,
    *,
    wanted: Callable[[LocationTable], bool],
    on_items: Callable[[int], None] = lambda _count: None,
) -> Iterator[ExplainedItem]:
    """Yield the run's done items that are wanted, in manifest order.

    Raises:
        SpecError: the items are no images.

    Args:
        services: Database, store and settings.
        run: The run.
        wanted: Whether an item is read at all.
        on_items: Told how many more items of the manifest were passed.
    """
    plan = RunPlan.from_json(run.plan)
    if plan.kind != IMAGE:
        raise SpecError(
            f"Run {run.id} explains items of kind {plan.kind}; only runs over images"
            " can be fitted on."
        )
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
            if result is None or row.item_index % step or not wanted(row):
                continue
            yield ExplainedItem(
                result=result,
                prepared=preparer.prepare(as_manifest_item(row)),
                attribution=upsample(map_of(result)[None], size)[0],
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

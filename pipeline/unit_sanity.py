# SPDX-License-Identifier: Apache-2.0
"""What the sanity gate computes of items that are no images.

As for images, but for the edge detector: units have no edges.
"""

from dataclasses import replace

import torch

from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.maps import dequantise
from explain.metrics import create_metric
from explain.sanity import (
    SANITY_STREAM,
    random_maps,
    randomised,
    rank_correlations,
    top_layer,
)
from explain.thresholded import Thresholded
from pipeline.kinds.kind import DataKind
from pipeline.run_plan import RunPlan
from pipeline.sanity_checks import ALONE, Measured, column_of
from pipeline.sanity_sample import SanitySample
from pipeline.unit_engine import UnitBatch, UnitEngine, run_gated
from pipeline.unit_executor import UnitExecutor


def measure_units(
    plan: RunPlan,
    executor: UnitExecutor,
    kind: DataKind,
    sample: SanitySample,
    found: Measured,
) -> None:
    """What the sample shows is added to what was found.

    A network without weights, such as trees, has no random copies; those columns stay
    empty.
    """
    if not sample.prepared:
        return
    batch = executor.batch_of(sample.prepared)
    model, device = executor.model, executor.device
    plain = replace(plan, metrics=[], batch_size=len(sample.prepared))
    networks = [model]
    if any(True for _ in model.parameters()):
        content = batch.contents[0]
        top = top_layer(model, lambda net: run_gated(kind, net, content, device))
        networks += [
            randomised(model, plan.seed, only=top),
            randomised(model, plan.seed),
        ]
    engines = [UnitEngine(plain, network, device, kind) for network in networks]
    with executor.session():
        for place in range(len(sample.prepared)):
            own = batch.alone(place)
            trained = engines[0].explained(own)
            fixed = replace(own, targets=trained.attribution.targets.cpu())
            maps = dequantise(trained.stored)
            for column, engine in zip(
                (found.top, found.whole), engines[1:], strict=False
            ):
                with frozen(networks[engines.index(engine)]):
                    other = dequantise(engine.explained(fixed).stored)
                column.extend(rank_correlations(maps, other))
            _compare(plan, engines[0], own, trained, found)
            if len(found.alone) < ALONE:
                found.alone.append(_same_alone(executor, batch, place))


def _compare(
    plan: RunPlan,
    engine: UnitEngine,
    batch: UnitBatch,
    trained: Thresholded,
    found: Measured,
) -> None:
    """Deletion of the method and of chance, and the residual."""
    own = engine.metric_batch(batch, trained)
    size = (own.maps.shape[1], own.maps.shape[2])
    draws = ItemDraws(plan.seed, batch.indices, SANITY_STREAM)
    chance = random_maps(draws, size).to(own.maps)
    deletion = create_metric("deletion")
    for column, shown in (
        (found.own_auc, own),
        (found.random_auc, replace(own, maps=chance)),
    ):
        column.extend(column_of(deletion.measure(shown)["deletion_auc"]))
    residual = create_metric("completeness").measure(own)
    relative = residual.get("completeness_residual_relative")
    if relative is not None:
        found.residual.extend(column_of(relative))


def _same_alone(executor: UnitExecutor, batch: UnitBatch, place: int) -> bool:
    """Return whether the item's stored map is the same bits without the others.

    The batch has the same size then, copies of the item in the others' places.
    """
    size = len(batch.contents)
    only = replace(
        batch,
        contents=[batch.contents[place]] * size,
        valid=[number == place for number in range(size)],
    )
    among, alone = (executor.stored_map(each, place) for each in (batch, only))
    return bool(
        torch.equal(among.values, alone.values)
        and torch.equal(among.scale, alone.scale)
    )

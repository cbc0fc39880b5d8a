# SPDX-License-Identifier: Apache-2.0
"""What the sanity gate computes of each batch of its sample."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.maps import dequantise, upsample
from explain.metrics import create_metric
from explain.metrics.column import MetricColumn
from explain.sanity import (
    SANITY_STREAM,
    edge_maps,
    random_maps,
    randomised,
    rank_correlations,
    top_layer,
)
from explain.thresholded import Thresholded
from pipeline.engine import BatchInputs, Engine
from pipeline.run_plan import RunPlan

#: Items that are explained alone as well; each costs a whole padded batch.
ALONE = 4

Column = list[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found of each item of the sample, None where there is no value."""

    top: Column = field(default_factory=list)
    whole: Column = field(default_factory=list)
    edges: Column = field(default_factory=list)
    residual: Column = field(default_factory=list)
    own_auc: Column = field(default_factory=list)
    random_auc: Column = field(default_factory=list)
    edges_auc: Column = field(default_factory=list)
    #: Whether the map of an item alone has the same bits.
    alone: list[bool] = field(default_factory=list)


class SanityMeasurer:
    """The trained network beside two random ones, on one device."""

    def __init__(self, plan: RunPlan, model: nn.Module, device: torch.device) -> None:
        """Make the networks; the trained one stays as it is.

        Args:
            plan: Of the run; its metrics are left out.
            model: The trained network, on its device.
            device: That device.
        """
        self._plan = replace(plan, metrics=[])
        self._device = device
        example = torch.zeros((1, *plan.input_shape), device=device)
        self._networks = (
            model,
            randomised(model, plan.seed, only=top_layer(model, example)),
            randomised(model, plan.seed),
        )
        self._engines = tuple(
            Engine(self._plan, network, device) for network in self._networks
        )

    def measure(self, batch: BatchInputs, found: Measured) -> None:
        """What the batch's items show is added to what was found.

        Args:
            batch: A padded batch; items come first.
            found: Lists that grow by the batch's items.
        """
        items = len([one for one in batch.valid.tolist() if one])
        trained = self._explained(0, batch)
        targets = trained.attribution.targets
        # The same class is explained, or another prediction would make the difference.
        fixed = replace(batch, targets=targets.cpu())
        maps = dequantise(trained.stored)
        for column, number in ((found.top, 1), (found.whole, 2)):
            other = dequantise(self._explained(number, fixed).stored)
            column.extend(rank_correlations(maps, other)[:items])
        edges = edge_maps(batch.inputs, (maps.shape[1], maps.shape[2]))
        found.edges.extend(rank_correlations(maps, edges)[:items])
        self._compare(batch, trained, edges, found, items)
        for place in range(min(items, max(0, ALONE - len(found.alone)))):
            found.alone.append(self._same_alone(batch, trained, place))

    def _explained(self, number: int, batch: BatchInputs) -> Thresholded:
        with frozen(self._networks[number]):
            return self._engines[number].explained(batch)

    def _compare(
        self,
        batch: BatchInputs,
        trained: Thresholded,
        edges: Tensor,
        found: Measured,
        items: int,
    ) -> None:
        """Deletion of the method, of chance and of edges, and the residual."""
        draws = ItemDraws(self._plan.seed, batch.indices, SANITY_STREAM)
        size = (edges.shape[1], edges.shape[2])
        own = self._engines[0].metric_batch(batch, trained)
        deletion, completeness = (
            create_metric("deletion"),
            create_metric("completeness"),
        )
        full = (batch.inputs.shape[2], batch.inputs.shape[3])
        with frozen(self._networks[0]):
            for column, maps in (
                (found.own_auc, None),
                (found.random_auc, random_maps(draws, size).to(self._device)),
                (found.edges_auc, edges),
            ):
                shown = own if maps is None else replace(own, maps=upsample(maps, full))
                measured = deletion.measure(shown)["deletion_auc"]
                column.extend(column_of(measured)[:items])
            residual = completeness.measure(own).get("completeness_residual_relative")
        if residual is not None:
            found.residual.extend(column_of(residual)[:items])

    def _same_alone(self, batch: BatchInputs, trained: Thresholded, place: int) -> bool:
        """Return whether an item's map has the same bits where all others are zero."""
        inputs = torch.zeros_like(batch.inputs)
        inputs[place] = batch.inputs[place]
        only = torch.zeros_like(batch.valid)
        only[place] = True
        alone = self._explained(0, replace(batch, inputs=inputs, valid=only))
        return bool(
            torch.equal(alone.stored.values[place], trained.stored.values[place])
            and torch.equal(alone.stored.scale[place], trained.stored.scale[place])
        )


def column_of(measured: MetricColumn) -> Column:
    """Return a metric's values, None where one is absent."""
    return [
        None if why is not None else float(value)
        for value, why in zip(measured.values.tolist(), measured.absent, strict=True)
    ]

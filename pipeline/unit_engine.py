# SPDX-License-Identifier: Apache-2.0
"""Explaining, cutting and measuring items that are units behind gates.

A method that can explains a batch at once. Threshold and metrics see each item alone
and at its own size, so that neither its neighbours nor their sizes can touch it; a
forward pass of theirs holds many altered copies of one item.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.gates import Content, GatedNetwork
from explain.methods import METHODS, Attribution, Method, create_method
from explain.metrics import MetricBatch, create_metric
from explain.metrics.random_networks import RandomNetworks
from explain.metrics.representation import Representation
from explain.thresholded import METHOD_STREAM, METRICS_STREAM, Explainer, Thresholded
from explain.thresholds import Need, create_policy
from pipeline.batch_rows import Columns, MeasuredBatch
from pipeline.kinds.kind import DataKind
from pipeline.policies import policy_arguments
from pipeline.run_plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitBatch:
    """One batch of contents.

    Attributes:
        contents: As many as a batch has places; where a place has no item, another's
            content stands in, so that the network always sees a batch of one size.
        valid: Whether each place has an item of its own.
        targets: (N,) int64 on the CPU, or None for the predicted classes.
        truths: (h, w) bool on the CPU, or None, of each place.
        indices: The manifest position of each item.
    """

    contents: Sequence[Content]
    valid: Sequence[bool]
    targets: Tensor | None
    truths: Sequence[Tensor | None]
    indices: tuple[int, ...]


class UnitEngine:
    """Explains, cuts and measures the batches of one run on one device."""

    def __init__(
        self, plan: RunPlan, model: nn.Module, device: torch.device, kind: DataKind
    ) -> None:
        """Take the parts; the network is on the device."""
        self._plan = plan
        self._model = model
        self._device = device
        self._kind = kind
        self._batched = METHODS[plan.method].batched
        self._policy = create_policy(plan.policy, **policy_arguments(plan))
        self._random: RandomNetworks[nn.Module] | None = None
        self._metrics = [
            create_metric(name, **plan.metric_arguments.get(name, {}))
            for name in plan.metrics
        ]

    def explained(self, batch: UnitBatch, place: int) -> Thresholded:
        """Return one item explained alone and cut, and nothing measured."""
        gated = self._gated(batch.contents[place])
        explainer = Explainer(gated, self._method(gated), self._policy, grid=0)
        return explainer.cut(
            self.attribution(batch, place),
            gated.open_gates(self._device),
            self._context(batch, place),
        )

    def metric_batch(
        self, batch: UnitBatch, place: int, found: Thresholded
    ) -> MetricBatch:
        """Return what metrics are given about one explained item."""
        gated = self._gated(batch.contents[place])
        explainer = Explainer(gated, self._method(gated), self._policy, grid=0)
        gates = gated.open_gates(self._device)
        return self._metric_batch(batch, place, gated, explainer, gates, found)

    def measure(self, batch: UnitBatch) -> list[MeasuredBatch | None]:
        """Return each place's item explained, cut and measured, None of a stand-in."""
        attributions, halved = self._attributions(batch)
        return [
            self._measured(batch, place, attribution, halved=halved)
            if batch.valid[place] and attribution is not None
            else None
            for place, attribution in enumerate(attributions)
        ]

    def attribution(self, batch: UnitBatch, place: int) -> Attribution:
        """Return one item's attribution, made of it alone."""
        gated = self._gated(batch.contents[place])
        targets = None if batch.targets is None else batch.targets[place : place + 1]
        return self._method(gated).explain(
            gated.open_gates(self._device), targets, self._context(batch, place)
        )

    def _attributions(self, batch: UnitBatch) -> tuple[list[Attribution | None], bool]:
        """Return each place's attribution at its own size; None where none is due."""
        if self._batched:
            try:
                return self._whole(batch), False
            except torch.OutOfMemoryError:
                if len(batch.contents) == 1:
                    raise
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        alone = [
            self.attribution(batch, place) if batch.valid[place] else None
            for place in range(len(batch.contents))
        ]
        return alone, self._batched

    def _whole(self, batch: UnitBatch) -> list[Attribution | None]:
        gated = self._kind.gated(self._model, batch.contents).to(self._device)
        context = ItemContext(
            draws=ItemDraws(self._plan.seed, batch.indices, METHOD_STREAM),
            chunk=self._plan.chunk,
        )
        found = self._method(gated).explain(
            gated.open_gates(self._device), batch.targets, context
        )
        return [_own(found, place, units) for place, units in enumerate(gated.units)]

    def _measured(
        self, batch: UnitBatch, place: int, attribution: Attribution, *, halved: bool
    ) -> MeasuredBatch:
        gated = self._gated(batch.contents[place])
        explainer = Explainer(gated, self._method(gated), self._policy, grid=0)
        gates = gated.open_gates(self._device)
        context = self._context(batch, place)
        if Need.NEIGHBOURS in self._policy.needs:
            context = replace(context, neighbours=gated.neighbours())
        found = explainer.cut(attribution, gates, context)
        columns: Columns = {}
        halved |= found.halved
        if self._metrics:
            asked = self._metric_batch(batch, place, gated, explainer, gates, found)
            columns = self._columns(asked)
            halved |= asked.halved
        return MeasuredBatch(
            attribution=found.attribution,
            probabilities=found.probabilities,
            stored=found.stored,
            threshold=found.threshold,
            cut_based=self._policy.cut_based,
            columns=columns,
            halved=halved,
        )

    def _columns(self, batch: MetricBatch) -> Columns:
        columns: dict[str, tuple[list[float], tuple[str | None, ...]]] = {}
        for metric in self._metrics:
            for key, column in metric.measure(batch).items():
                columns[key] = (column.values.tolist(), column.absent)
        return columns

    def _metric_batch(
        self,
        batch: UnitBatch,
        place: int,
        gated: GatedNetwork,
        explainer: Explainer,
        gates: Tensor,
        found: Thresholded,
    ) -> MetricBatch:
        context = self._context(batch, place)

        def explain_again(inputs: Tensor, targets: Tensor) -> Attribution:
            return explainer.explain(inputs, targets, context)

        content = batch.contents[place]

        def explain_at_random(
            inputs: Tensor, targets: Tensor, stage: int, stages: int
        ) -> Attribution:
            with self._random_networks(content).randomised(stage, stages) as copy:
                seen = self._kind.gated(copy, [content]).to(self._device)
                return self._method(seen).explain(inputs, targets, context)

        truth = batch.truths[place]
        return MetricBatch(
            inputs=gates,
            targets=found.attribution.targets,
            logits=found.attribution.logits,
            stored=found.stored,
            maps=found.maps,
            mask=found.threshold.mask,
            ground_truth=None if truth is None else truth[None].to(self._device),
            has_truth=torch.tensor([truth is not None]),
            valid=torch.tensor([True]),
            output_change=found.attribution.output_change,
            forward=gated,
            explain=explain_again,
            draws=replace(context.draws, stream=METRICS_STREAM),
            input_range=torch.ones(1, device=self._device),
            chunk=self._plan.chunk,
            represent=Representation(gated),
            randomised=explain_at_random,
        )

    def _random_networks(self, content: Content) -> RandomNetworks[nn.Module]:
        """Return the random copies of the network; the content is one it takes."""
        if self._random is None:
            self._random = RandomNetworks(
                self._model,
                lambda copy: copy,
                lambda network: run_gated(self._kind, network, content, self._device),
                self._plan.seed,
            )
        return self._random

    def _gated(self, content: Content) -> GatedNetwork:
        return self._kind.gated(self._model, [content]).to(self._device)

    def _method(self, gated: GatedNetwork) -> Method:
        return create_method(self._plan.method, gated, **self._plan.method_arguments)

    def _context(self, batch: UnitBatch, place: int) -> ItemContext:
        draws = ItemDraws(self._plan.seed, (batch.indices[place],), METHOD_STREAM)
        return ItemContext(draws=draws, chunk=self._plan.chunk)


def run_gated(
    kind: DataKind, network: nn.Module, content: Content, device: torch.device
) -> None:
    """The network has seen the item as it is."""
    gated = kind.gated(network, [content]).to(device)
    gated(gated.open_gates(device))


def _own(found: Attribution, place: int, units: tuple[int, int]) -> Attribution:
    """Return one item's part of a batch's attribution, at the item's size."""
    row, (height, width) = slice(place, place + 1), units
    change = found.output_change
    return Attribution(
        logits=found.logits[row],
        targets=found.targets[row],
        maps=found.maps[row, :height, :width],
        zero_gradient=found.zero_gradient[row],
        output_change=None if change is None else change[row],
        halved=found.halved,
    )

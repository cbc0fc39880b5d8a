# SPDX-License-Identifier: Apache-2.0
"""Explaining, cutting and measuring items that are units behind gates.

A method that can explains a batch at once. Threshold and metrics see items of one size:
the whole batch where every item of the kind has the same units, such as columns, and
else each item alone, so that neither neighbours nor their sizes can touch it.
"""

from collections.abc import Callable, Sequence
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
from pipeline.attribution_parts import joined, own_part
from pipeline.batch_rows import Columns, MeasuredBatch
from pipeline.kinds.kind import DataKind
from pipeline.metric_columns import measured_columns
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

    def alone(self, place: int) -> "UnitBatch":
        """Return the batch of one item."""
        row = slice(place, place + 1)
        return UnitBatch(
            contents=self.contents[row],
            valid=self.valid[row],
            targets=None if self.targets is None else self.targets[row],
            truths=self.truths[row],
            indices=self.indices[row],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPart:
    """Some places of a batch, measured together.

    Attributes:
        places: Which.
        measured: What was found of them; None where none of them has an item.
    """

    places: tuple[int, ...]
    measured: MeasuredBatch | None


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
        # A policy that asks for scores does so in batches of its own making.
        self._together = kind.card.even and Need.SCORE not in self._policy.needs
        self._random: RandomNetworks[nn.Module] | None = None
        self._metrics = [
            create_metric(name, **plan.metric_arguments.get(name, {}))
            for name in plan.metrics
        ]

    def explained(self, batch: UnitBatch) -> Thresholded:
        """Return items of one size explained and cut, and nothing measured."""
        return self._cut(batch, self._gated(batch), self._attribution(batch))

    def metric_batch(self, batch: UnitBatch, found: Thresholded) -> MetricBatch:
        """Return what metrics are given about explained items of one size."""
        gated = self._gated(batch)
        context = self._context(batch)

        def explain_again(inputs: Tensor, targets: Tensor) -> Attribution:
            asked = replace(batch, targets=targets)
            return self._attribution(asked, inputs=inputs)

        def explain_at_random(
            inputs: Tensor, targets: Tensor, stage: int, stages: int
        ) -> Attribution:
            asked = replace(batch, targets=targets)
            if next(self._model.parameters(), None) is None:
                # Trees have no weights to draw anew: no map, and so no number.
                own = self._attribution(asked, inputs=inputs)
                return replace(own, maps=torch.full_like(own.maps, torch.nan))
            networks = self._random_networks(batch.contents[0])
            with networks.randomised(stage, stages) as copy:
                return self._attribution(asked, inputs=inputs, model=copy)

        truth, has_truth = self._truths(batch, found)
        return MetricBatch(
            inputs=gated.open_gates(self._device),
            targets=found.attribution.targets,
            logits=found.attribution.logits,
            stored=found.stored,
            maps=found.maps,
            mask=found.threshold.mask,
            ground_truth=truth,
            has_truth=has_truth,
            valid=torch.tensor(list(batch.valid)),
            output_change=found.attribution.output_change,
            forward=_copies_first(gated),
            explain=explain_again,
            draws=replace(context.draws, stream=METRICS_STREAM),
            input_range=torch.ones(1, device=self._device),
            chunk=self._plan.chunk,
            represent=Representation(gated),
            randomised=explain_at_random,
        )

    def measure(self, batch: UnitBatch) -> list[MeasuredPart]:
        """Return the batch explained, cut and measured, in parts of one size each."""
        whole = self._whole(batch)
        if self._together:
            attribution = self._attribution(batch) if whole is None else whole
            measured = self._measured(batch, attribution, halved=self._halved(whole))
            places = tuple(range(len(batch.contents)))
            return [MeasuredPart(places=places, measured=measured)]
        return [
            MeasuredPart(places=(place,), measured=self._alone(batch, place, whole))
            for place in range(len(batch.contents))
        ]

    def _halved(self, whole: Attribution | None) -> bool:
        """Say whether a batch that was to be explained at once could not be."""
        return self._batched and whole is None

    def _alone(
        self, batch: UnitBatch, place: int, whole: Attribution | None
    ) -> MeasuredBatch | None:
        if not batch.valid[place]:
            return None
        own = batch.alone(place)
        if whole is None:
            attribution = self._attribution(own)
        else:
            attribution = own_part(whole, place, own.contents[0].units)
        return self._measured(own, attribution, halved=self._halved(whole))

    def _whole(self, batch: UnitBatch) -> Attribution | None:
        """Return the attributions of a batch that is explained at once, or None."""
        if not self._batched:
            return None
        try:
            return self._explain(batch, self._model)
        except torch.OutOfMemoryError:
            if len(batch.contents) == 1:
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return None

    def _attribution(
        self,
        batch: UnitBatch,
        *,
        inputs: Tensor | None = None,
        model: nn.Module | None = None,
    ) -> Attribution:
        """Return the attributions of items of one size.

        Args:
            batch: The items.
            inputs: Gates instead of open ones, (N, 1, h, w).
            model: Instead of the run's network.
        """
        network = self._model if model is None else model
        if self._batched or len(batch.contents) == 1:
            return self._explain(batch, network, inputs)
        return joined(
            self._explain(
                batch.alone(place),
                network,
                None if inputs is None else inputs[place : place + 1],
            )
            for place in range(len(batch.contents))
        )

    def _explain(
        self, batch: UnitBatch, model: nn.Module, inputs: Tensor | None = None
    ) -> Attribution:
        gated = self._kind.gated(model, batch.contents).to(self._device)
        gates = gated.open_gates(self._device) if inputs is None else inputs
        return self._method(gated).explain(gates, batch.targets, self._context(batch))

    def _cut(
        self, batch: UnitBatch, gated: GatedNetwork, attribution: Attribution
    ) -> Thresholded:
        explainer = Explainer(gated, self._method(gated), self._policy, grid=0)
        gates = gated.open_gates(self._device)
        context = self._context(batch)
        if Need.NEIGHBOURS in self._policy.needs:
            context = replace(context, neighbours=gated.neighbours())
        return explainer.cut(attribution, gates, context)

    def _measured(
        self, batch: UnitBatch, attribution: Attribution, *, halved: bool
    ) -> MeasuredBatch:
        found = self._cut(batch, self._gated(batch), attribution)
        columns: Columns = {}
        halved |= found.halved
        if self._metrics:
            asked = self.metric_batch(batch, found)
            columns = measured_columns(self._metrics, asked)
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

    def _truths(
        self, batch: UnitBatch, found: Thresholded
    ) -> tuple[Tensor | None, Tensor]:
        has_truth = torch.tensor([truth is not None for truth in batch.truths])
        if not bool(has_truth.any()):
            return None, has_truth
        stacked = torch.zeros_like(found.threshold.mask)
        for place, truth in enumerate(batch.truths):
            if truth is not None:
                stacked[place] = truth.to(self._device)
        return stacked, has_truth

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

    def _gated(self, batch: UnitBatch) -> GatedNetwork:
        return self._kind.gated(self._model, batch.contents).to(self._device)

    def _method(self, gated: GatedNetwork) -> Method:
        return create_method(self._plan.method, gated, **self._plan.method_arguments)

    def _context(self, batch: UnitBatch) -> ItemContext:
        draws = ItemDraws(self._plan.seed, batch.indices, METHOD_STREAM)
        return ItemContext(draws=draws, chunk=self._plan.chunk)


def run_gated(
    kind: DataKind, network: nn.Module, content: Content, device: torch.device
) -> None:
    """The network has seen the item as it is."""
    gated = kind.gated(network, [content]).to(device)
    gated(gated.open_gates(device))


def _copies_first(gated: GatedNetwork) -> Callable[[Tensor], Tensor]:
    """Return the network for copies of a batch, one whole copy behind the other.

    Behind gates an item's copies follow each other; metrics lay batch upon batch.
    """
    items = len(gated.units)

    def forward(inputs: Tensor) -> Tensor:
        copies = len(inputs) // items
        by_copy = inputs.view(copies, items, *inputs.shape[1:])
        logits: Tensor = gated(by_copy.transpose(0, 1).flatten(0, 1))
        by_item = logits.view(items, copies, logits.shape[1])
        return by_item.transpose(0, 1).flatten(0, 1)

    return forward

# SPDX-License-Identifier: Apache-2.0
"""The network, method, policy and metrics of one run: explain, cut, measure a batch.

What is measured is what is stored: threshold and metrics start from the map as it will
be written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain.architectures import TappedLayer
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.methods import (
    METHODS,
    Attribution,
    Method,
    create_method,
    resolve_tap,
)
from explain.metrics import Metric, MetricBatch, create_metric
from explain.metrics.random_networks import RandomNetworks
from explain.metrics.representation import Representation
from explain.remedies import with_remedies
from explain.thresholded import (
    METHOD_STREAM,
    METRICS_STREAM,
    Explainer,
    Thresholded,
)
from explain.thresholds import Need, ThresholdPolicy, create_policy
from pipeline.batch_rows import Columns, MeasuredBatch
from pipeline.metric_columns import measured_columns
from pipeline.policies import policy_arguments
from pipeline.run_plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInputs:
    """One batch as tensors on the device.

    Shape: inputs (N, C, H, W) normalised; targets (N,) int64 on the CPU, or None for
    the predicted classes; ground_truth (N, H, W) bool, or None; has_truth, valid (N,)
    bool on the CPU; indices, the manifest position of each item.
    """

    inputs: Tensor
    targets: Tensor | None
    ground_truth: Tensor | None
    has_truth: Tensor
    valid: Tensor
    indices: tuple[int, ...]


def planned_method(
    plan: RunPlan, model: nn.Module, layer: TappedLayer | None
) -> Method:
    """Return the run's method with its remedies."""
    return with_remedies(
        create_method(plan.method, model, layer, **plan.method_arguments),
        mean=tuple(plan.mean),
        std=tuple(plan.std),
        model=model,
        **plan.remedies,
    )


def _do_nothing() -> None:
    """Stand in for a listener."""


class Engine:
    """Explains, cuts and measures the batches of one run on one device.

    Attributes:
        on_step: Told after each forward pass of the copy with random weights; who
            listens to the network itself does not hear its copy.
    """

    def __init__(
        self,
        plan: RunPlan,
        model: nn.Module,
        device: torch.device,
        *,
        layer: TappedLayer | None = None,
    ) -> None:
        """Take the parts.

        Args:
            plan: The plan.
            model: The network, on the device.
            device: Where batches are computed.
            layer: The tapped layer; None looks for it with hooks throughout the
                network, which one that is compiled does not take.
        """
        self._plan = plan
        self._model = model
        self._example = torch.zeros((1, *plan.input_shape), device=device)
        #: The tapped layer, None for methods that tap none.
        self.layer = layer or self._layer_of(model)
        self._policy: ThresholdPolicy = create_policy(
            plan.policy, **policy_arguments(plan)
        )
        self.on_step: Callable[[], None] = _do_nothing
        self._explainer = self._explainer_of(model, self.layer)
        self._random = RandomNetworks(
            model, self._explainer_of_copy, self._example, plan.seed
        )
        self._metrics: list[Metric] = [
            create_metric(name, **plan.metric_arguments.get(name, {}))
            for name in plan.metrics
        ]
        self._mean = torch.tensor(plan.mean, device=device)[:, None, None]
        self._std = torch.tensor(plan.std, device=device)[:, None, None]
        self._shows_images = (
            METHODS[plan.method].needs_images
            or "contrast" in plan.remedies
            or Need.IMAGES in self._policy.needs
        )

    def _layer_of(self, model: nn.Module) -> TappedLayer | None:
        plan = self._plan
        return resolve_tap(plan.method, model, plan.layer, self._example)

    def _explainer_of(self, model: nn.Module, layer: TappedLayer | None) -> Explainer:
        """Return what explains with this network, the run's own or a copy."""
        plan, card = self._plan, METHODS[self._plan.method]
        return Explainer(
            model,
            planned_method(plan, model, layer),
            self._policy,
            grid=plan.grid if card.pixel_resolution else 0,
        )

    def _explainer_of_copy(self, copy: nn.Module) -> Explainer:
        copy.register_forward_hook(lambda *_: self.on_step())
        return self._explainer_of(copy, self._layer_of(copy))

    def explained(self, batch: BatchInputs) -> Thresholded:
        """Return the batch explained and cut, and nothing measured."""
        context = self._context(batch, batch.inputs)
        return self._explainer(batch.inputs, batch.targets, context)

    def measure(self, batch: BatchInputs) -> MeasuredBatch:
        """Return the batch explained, cut and measured."""
        found = self.explained(batch)
        columns: Columns = {}
        halved = found.halved
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

    def _context(self, batch: BatchInputs, inputs: Tensor) -> ItemContext:
        images = regions = None
        if self._shows_images:
            images = (inputs * self._std + self._mean).clamp(0, 1)
        if Need.REGIONS in self._policy.needs and batch.ground_truth is not None:
            regions = batch.ground_truth.long()
        draws = ItemDraws(self._plan.seed, batch.indices, METHOD_STREAM)
        return ItemContext(
            draws=draws, images=images, regions=regions, chunk=self._plan.chunk
        )

    def metric_batch(self, batch: BatchInputs, found: Thresholded) -> MetricBatch:
        """Return what metrics are given about an explained batch."""

        def explain_again(inputs: Tensor, targets: Tensor) -> Attribution:
            context = self._context(batch, inputs)
            return self._explainer.explain(inputs, targets, context)

        def explain_at_random(
            inputs: Tensor, targets: Tensor, stage: int, stages: int
        ) -> Attribution:
            context = self._context(batch, inputs)
            with self._random.randomised(stage, stages) as explainer:
                return explainer.explain(inputs, targets, context)

        return MetricBatch(
            inputs=batch.inputs,
            targets=found.attribution.targets,
            logits=found.attribution.logits,
            stored=found.stored,
            maps=found.maps,
            mask=found.threshold.mask,
            ground_truth=batch.ground_truth,
            has_truth=batch.has_truth,
            valid=batch.valid,
            output_change=found.attribution.output_change,
            forward=self._model,
            explain=explain_again,
            draws=ItemDraws(self._plan.seed, batch.indices, METRICS_STREAM),
            input_range=1.0 / self._std.flatten(),
            chunk=self._plan.chunk,
            represent=Representation(self._model),
            randomised=explain_at_random,
        )


def stacked_truths(
    truths: Sequence[object], size: tuple[int, int], device: torch.device
) -> tuple[Tensor | None, Tensor]:
    """Return the ground truths of a batch and which items have one.

    Shape: truths of length N, each (H, W) bool or None -> (N, H, W) bool, (N,) bool.
    """
    has_truth = torch.tensor([truth is not None for truth in truths])
    if not bool(has_truth.any()):
        return None, has_truth
    stacked = torch.zeros((len(truths), *size), dtype=torch.bool)
    for place, truth in enumerate(truths):
        if truth is not None:
            stacked[place] = torch.as_tensor(truth)
    return stacked.to(device), has_truth

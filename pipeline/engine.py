# SPDX-License-Identifier: Apache-2.0
"""The network, method, policy and metrics of one run: explain, cut, measure a batch.

What is measured is what is stored: threshold and metrics start from the map as it will
be written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from explain.architectures import TappedLayer, resolve_layer
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.maps import StoredMaps, dequantise, pool_to_grid, quantise, upsample
from explain.methods import METHODS, Attribution, Method, create_method
from explain.metrics import Metric, MetricBatch, create_metric, target_probability
from explain.remedies import with_remedies
from explain.scoring import TargetScorer
from explain.thresholds import (
    Need,
    ThresholdContext,
    ThresholdPolicy,
    ThresholdResult,
    create_policy,
)
from pipeline.batch_rows import Columns, MeasuredBatch
from pipeline.policies import policy_arguments
from pipeline.run_plan import RunPlan

#: Streams of random draws, so that no two users of randomness share a number.
METRICS_STREAM, METHOD_STREAM, POLICY_STREAM = 0, 1, 2


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


class Engine:
    """Explains, cuts and measures the batches of one run on one device."""

    def __init__(self, plan: RunPlan, model: nn.Module, device: torch.device) -> None:
        self._plan = plan
        self._model = model
        layer: TappedLayer | None = None
        card = METHODS[plan.method]
        if card.needs_layer:
            example = torch.zeros((1, *plan.input_shape), device=device)
            layer = resolve_layer(model, plan.layer, example)
        self._method = planned_method(plan, model, layer)
        self._pooled = card.pixel_resolution
        self._policy: ThresholdPolicy = create_policy(
            plan.policy, **policy_arguments(plan)
        )
        self._metrics: list[Metric] = [create_metric(name) for name in plan.metrics]
        self._mean = torch.tensor(plan.mean, device=device)[:, None, None]
        self._std = torch.tensor(plan.std, device=device)[:, None, None]
        self._shows_images = (
            card.needs_images
            or "contrast" in plan.remedies
            or Need.IMAGES in self._policy.needs
        )

    def measure(self, batch: BatchInputs) -> MeasuredBatch:
        """Return the batch explained, cut and measured."""
        context = self._context(batch, batch.inputs)
        attribution = self._explain(batch.inputs, batch.targets, context)
        probabilities = target_probability(attribution.logits, attribution.targets)
        stored = quantise(attribution.maps)
        size = (batch.inputs.shape[2], batch.inputs.shape[3])
        maps = upsample(dequantise(stored), size)
        threshold, halved = self._threshold(
            batch, maps, attribution, probabilities, context.images
        )
        columns: Columns = {}
        if self._metrics:
            columns = self._measured(
                self._metric_batch(
                    batch, attribution, probabilities, stored, maps, threshold
                )
            )
        return MeasuredBatch(
            attribution=attribution,
            probabilities=probabilities,
            stored=stored,
            threshold=threshold,
            cut_based=self._policy.cut_based,
            columns=columns,
            halved=attribution.halved or halved,
        )

    def _context(self, batch: BatchInputs, inputs: Tensor) -> ItemContext:
        images = None
        if self._shows_images:
            images = (inputs * self._std + self._mean).clamp(0, 1)
        draws = ItemDraws(self._plan.seed, batch.indices, METHOD_STREAM)
        return ItemContext(draws=draws, images=images, chunk=self._plan.chunk)

    def _explain(
        self, inputs: Tensor, targets: Tensor | None, context: ItemContext
    ) -> Attribution:
        """Return the attribution at the resolution at which it is stored."""
        attribution = self._method.explain(inputs, targets, context)
        if not self._pooled:
            return attribution
        pooled = pool_to_grid(attribution.maps, self._plan.grid)
        return replace(attribution, maps=pooled)

    def _threshold(
        self,
        batch: BatchInputs,
        maps: Tensor,
        attribution: Attribution,
        probabilities: Tensor,
        images: Tensor | None,
    ) -> tuple[ThresholdResult, bool]:
        """Return the masks, and whether a pass of the search was halved."""
        score = TargetScorer(self._model, attribution.targets, self._plan.chunk)
        context = ThresholdContext(
            inputs=batch.inputs,
            images=images,
            targets=attribution.targets,
            probabilities=probabilities,
            score=score,
            draws=ItemDraws(self._plan.seed, batch.indices, POLICY_STREAM),
        )
        return self._policy.apply(maps, context), score.halved

    def _measured(self, batch: MetricBatch) -> Columns:
        columns: dict[str, tuple[list[float], tuple[str | None, ...]]] = {}
        for metric in self._metrics:
            for key, column in metric.measure(batch).items():
                columns[key] = (column.values.tolist(), column.absent)
        return columns

    def _metric_batch(
        self,
        batch: BatchInputs,
        attribution: Attribution,
        probabilities: Tensor,
        stored: StoredMaps,
        maps: Tensor,
        threshold: ThresholdResult,
    ) -> MetricBatch:
        draws = ItemDraws(self._plan.seed, batch.indices, METRICS_STREAM)
        shape = tuple(batch.inputs.shape[1:])

        def explain_again(inputs: Tensor, targets: Tensor) -> Attribution:
            return self._explain(inputs, targets, self._context(batch, inputs))

        return MetricBatch(
            inputs=batch.inputs,
            targets=attribution.targets,
            probabilities=probabilities,
            stored=stored,
            maps=maps,
            mask=threshold.mask,
            ground_truth=batch.ground_truth,
            has_truth=batch.has_truth,
            valid=batch.valid,
            output_change=attribution.output_change,
            forward=self._model,
            explain=explain_again,
            noise=lambda draw: draws.uniform(draw, shape).to(batch.inputs.device),
            input_range=1.0 / self._std.flatten(),
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

# SPDX-License-Identifier: Apache-2.0
"""What metrics are given about one batch, and what several of them share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from explain.maps import StoredMaps
from explain.methods.method import Attribution


def target_probability(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the softmax probability of each item's target class.

    Computed in float64, so that small probabilities and their ratios survive.

    Shape: logits (N, K), targets (N,) int64 -> (N,) float64.
    """
    probabilities = logits.double().softmax(dim=1)
    return probabilities.gather(1, targets[:, None].to(logits.device)).squeeze(1)


@dataclass(frozen=True, eq=False, kw_only=True)
class MetricBatch:
    """One batch of explanations as stored, with the means to ask the model again.

    Every forward pass is made with the batch's own shape, since convolutions give
    other last bits at other batch sizes. Items that are not ``valid`` (failed, or
    zero padding) go along and come out absent.

    Attributes:
        inputs: (N, C, H, W), normalised as the model takes them.
        targets: (N,) int64.
        probabilities: (N,) of the target, from the main forward pass.
        stored: the native maps as written.
        maps: (N, H, W) float32, upsampled from the stored ones.
        mask: (N, H, W) bool, what the threshold policy kept.
        ground_truth: (N, H, W) bool, or None if no item has one.
        has_truth: (N,) bool.
        valid: (N,) bool.
        output_change: what the raw map should sum to, (N,) float64, for methods with
            a completeness axiom; None for others.
        forward: inputs to logits, without a graph.
        explain: inputs and targets to an attribution.
        noise: draw index to (N, C, H, W) uniform in [-1, 1), belonging to items.
        input_range: (C,), the width of the valid input range per channel (1 / std).
    """

    inputs: Tensor
    targets: Tensor
    probabilities: Tensor
    stored: StoredMaps
    maps: Tensor
    mask: Tensor
    ground_truth: Tensor | None
    has_truth: Tensor
    valid: Tensor
    forward: Callable[[Tensor], Tensor]
    explain: Callable[[Tensor, Tensor], Attribution]
    noise: Callable[[int], Tensor]
    input_range: Tensor
    output_change: Tensor | None = None

    def score(self, inputs: Tensor) -> Tensor:
        """Return the target's probability on other inputs of the same shape.

        Shape: (N, C, H, W) -> (N,) float64.
        """
        with torch.no_grad():
            return target_probability(self.forward(inputs), self.targets)

    def keep_only(self, kept: Tensor) -> Tensor:
        """Return the inputs where kept, and zero in normalised space elsewhere.

        Shape: kept (N, H, W) bool.
        """
        # Multiplying would carry a NaN or infinity of the input through a mask.
        return torch.where(kept[:, None], self.inputs, 0.0)

    @cached_property
    def full_scores(self) -> Tensor:
        """The target's probability on the whole input, (N,) float64."""
        return self.probabilities.double().to(self.inputs.device)

    @cached_property
    def baseline_scores(self) -> Tensor:
        """The target's probability on the all-zero input, (N,) float64."""
        return self.score(torch.zeros_like(self.inputs))

    @cached_property
    def ranks(self) -> Tensor:
        """Each pixel's place when sorted by attribution, highest first, (N, H, W).

        Equal values rank by lowest index.
        """
        flat = self.maps.flatten(1)
        order = flat.argsort(dim=1, descending=True, stable=True)
        places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
        return torch.empty_like(order).scatter_(1, order, places).view_as(self.maps)

    @cached_property
    def invalid(self) -> Tensor:
        """Items that failed or are padding, (N,) bool."""
        return ~self.valid.cpu()

    @cached_property
    def non_finite_map(self) -> Tensor:
        """Items whose map holds NaN or infinity, (N,) bool."""
        return ~torch.isfinite(self.maps.flatten(1)).all(dim=1).cpu()

    @cached_property
    def constant_map(self) -> Tensor:
        """Items whose map is the same everywhere, (N,) bool."""
        flat = self.maps.flatten(1)
        return (flat.amin(dim=1) == flat.amax(dim=1)).cpu()

# SPDX-License-Identifier: Apache-2.0
"""Complexity: over how many places the map is spread.

    sparseness = 1 - 2 sum_k (|a|_(k) / sum |a|) (n - k + 1/2) / n, ascending (Gini)
    entropy    = - sum p ln p, p = |a| / sum |a|
    effective  = share of positions with |a| > epsilon max |a|

Sources: Hurley and Rickard 2009, "Comparing measures of sparsity", and Chalasani et
al. 2020, "Concise Explanations of Neural Networks using Adversarial Training"; Bhatt,
Weller and Moura 2020, "Evaluating and Aggregating Feature-based Model Explanations",
definition 5; Nguyen and Martinez 2020, "On quantitative aspects of model
interpretability", section 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.ranking import descending_values


class Sparseness:
    """The Gini index of the map's magnitudes."""

    name = "sparseness"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``sparseness``; no forward pass."""
        sizes = batch.maps.flatten(1).abs()
        ordered = descending_values(sizes).flip(1).double()
        count = ordered.shape[1]
        places = torch.arange(1, count + 1, device=ordered.device)
        weights = (count - places + 0.5) / count
        shared = (ordered * weights).sum(dim=1) / ordered.sum(dim=1)
        return {"sparseness": column(1 - 2 * shared, batch.unusable)}


class Entropy:
    """The entropy of the map's magnitudes as shares."""

    name = "entropy"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``entropy`` in nats; no forward pass."""
        sizes = _magnitudes(batch)
        shares = sizes / sizes.sum(dim=1, keepdim=True)
        # entr() takes 0 ln 0 as 0.
        return {"entropy": column(torch.special.entr(shares).sum(1), batch.unusable)}


@dataclass(frozen=True, slots=True)
class EffectiveComplexity:
    """The share of positions that are not next to nothing."""

    epsilon: float = 0.01

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "effective_complexity"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``effective_complexity``; no forward pass."""
        sizes = _magnitudes(batch)
        above = sizes > self.epsilon * sizes.amax(dim=1, keepdim=True)
        share = above.double().mean(dim=1)
        return {"effective_complexity": column(share, batch.unusable)}


def _magnitudes(batch: MetricBatch) -> Tensor:
    """Return |a| of the upsampled stored maps, (N, H * W) float64."""
    return batch.maps.flatten(1).abs().double()

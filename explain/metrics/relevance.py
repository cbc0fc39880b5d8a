# SPDX-License-Identifier: Apache-2.0
"""How much of the map itself, whatever the mask, lies on what a person marked.

Sources: Zhang et al. 2018, "Top-Down Neural Attention by Excitation Backprop", section
4.1 (pointing game); Arras, Osman and Samek 2021, "CLEVR-XAI", equations 1 and 2 (mass
and rank accuracy); Theiner, Mueller-Budack and Ewerth 2022, "Interpretable Semantic
Photo Geolocation", section 4.3 (top-k intersection).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.maps import energy_retained
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.boundaries import grown
from explain.metrics.column import MetricColumn, column
from explain.metrics.truth import truth_of, without_truth


@dataclass(frozen=True, slots=True)
class PointingGame:
    """Whether the highest position lies on the truth."""

    tolerance: int = 0

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "pointing_game"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``pointing_game``, 1 for a hit and 0 for a miss."""
        truth = truth_of(batch)
        if self.tolerance:
            truth = grown(truth, float(self.tolerance))
        return {"pointing_game": _share_of_top(batch, truth, 1)}


class RelevanceMass:
    """The share of the positive map on the truth."""

    name = "relevance_mass"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``relevance_mass``."""
        mass = energy_retained(batch.maps, truth_of(batch))
        no_energy = batch.maps.flatten(1).amax(dim=1) <= 0
        absent = [*without_truth(batch), (AbsenceReason.ZERO_ENERGY, no_energy)]
        return {"relevance_mass": column(mass, absent)}


class RelevanceRank:
    """The share of the truth among as many top positions as it has."""

    name = "relevance_rank"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``relevance_rank``."""
        truth = truth_of(batch)
        size = truth.sum(dim=(1, 2))
        return {"relevance_rank": _share_of_top(batch, truth, size)}


@dataclass(frozen=True, slots=True)
class TopKIntersection:
    """The share of the top positions on the truth."""

    k: int = 1000

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "top_k_intersection"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``top_k_intersection``."""
        count = min(self.k, batch.maps[0].numel())
        return {"top_k_intersection": _share_of_top(batch, truth_of(batch), count)}


def _share_of_top(
    batch: MetricBatch, truth: Tensor, count: Tensor | int
) -> MetricColumn:
    """Return the share of each item's top positions on its truth."""
    sizes = torch.as_tensor(count, device=batch.maps.device).expand(len(truth))
    top = batch.ranks < sizes[:, None, None]
    hits = (top & truth).sum(dim=(1, 2)).double()
    return column(hits / sizes, without_truth(batch))

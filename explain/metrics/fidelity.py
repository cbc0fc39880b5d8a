# SPDX-License-Identifier: Apache-2.0
"""Fidelity of a subgraph: whether the class goes with it, or stays with it alone.

    fidelity+ = |1(argmax f(x) = target) - 1(argmax f(x without the mask) = target)|
    fidelity- = |1(argmax f(x) = target) - 1(argmax f(x where the mask keeps) = target)|

with a baseline elsewhere. Their mean over items is the share of items whose class
changes. The same with probabilities instead of the class is `comprehensiveness` and
`sufficiency`.

Sources: Pope et al. 2019, "Explainability Methods for Graph Convolutional Neural
Networks"; Yuan et al. 2022, "Explainability in Graph Neural Networks: A Taxonomic
Survey" (Fidelity+ and Fidelity- of accuracy); Amara et al. 2022, "GraphFramEx".
"""

from dataclasses import dataclass

from torch import Tensor

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.removal import Removal

_SCORE = "accuracy"


@dataclass(frozen=True, slots=True)
class FidelityPlus:
    """Whether the class changes when the mask is taken away."""

    baseline: str = "zero"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "fidelity_plus"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``fidelity_plus``; one forward pass."""
        return {"fidelity_plus": _changed(batch, self.baseline, ~batch.mask)}


@dataclass(frozen=True, slots=True)
class FidelityMinus:
    """Whether the class changes when only the mask is left."""

    baseline: str = "zero"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "fidelity_minus"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``fidelity_minus``; one forward pass."""
        return {"fidelity_minus": _changed(batch, self.baseline, batch.mask)}


def _changed(batch: MetricBatch, baseline: str, shown: Tensor) -> MetricColumn:
    """Return 1 where what is shown is judged otherwise than the whole, else 0."""
    seen = Removal.of(batch, baseline).keep_only(shown[None])[0]
    change = (batch.full_scores(_SCORE) - batch.score(seen, _SCORE)).abs()
    empty = ~batch.mask.flatten(1).any(dim=1)
    return column(change, [*batch.unusable, (AbsenceReason.EMPTY_MASK, empty)])

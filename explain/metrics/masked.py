# SPDX-License-Identifier: Apache-2.0
"""Confidence retained, sufficiency, comprehensiveness: the mask alone, or all but it.

    confidence retained = p(target | x where the mask keeps) / p(target | x)
    sufficiency         = p(target | x) - p(target | x where the mask keeps)
    comprehensiveness   = p(target | x) - p(target | x without what the mask keeps)

with a baseline elsewhere.

Sources: Chattopadhay et al. 2018, "Grad-CAM++", section 4.1, where one minus the first
ratio, clipped at zero, is the drop in confidence; DeYoung et al. 2020, "ERASER: A
Benchmark to Evaluate Rationalized NLP Models", section 4.2.
"""

from dataclasses import dataclass

from torch import Tensor

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.removal import Removal


@dataclass(frozen=True, slots=True)
class ConfidenceRetained:
    """The score of the masked input relative to that of the whole input."""

    baseline: str = "zero"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "confidence_retained"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``confidence_retained``; one forward pass, shared."""
        whole = batch.full_scores()
        absent = [*_absent(batch), (AbsenceReason.ZERO_PROBABILITY, whole == 0)]
        return {
            "confidence_retained": column(_kept(batch, self.baseline) / whole, absent)
        }


@dataclass(frozen=True, slots=True)
class Sufficiency:
    """How far the score falls when only the mask is left."""

    baseline: str = "zero"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "sufficiency"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``sufficiency``; one forward pass, shared."""
        drop = batch.full_scores() - _kept(batch, self.baseline)
        return {"sufficiency": column(drop, _absent(batch))}


@dataclass(frozen=True, slots=True)
class Comprehensiveness:
    """How far the score falls when the mask is taken away."""

    baseline: str = "zero"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "comprehensiveness"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``comprehensiveness``; one forward pass."""
        removal = Removal.of(batch, self.baseline)
        without = batch.score(removal.keep_only(~batch.mask[None])[0])
        drop = batch.full_scores() - without
        return {"comprehensiveness": column(drop, _absent(batch))}


def _kept(batch: MetricBatch, baseline: str) -> Tensor:
    """Return the score of what the mask keeps, asked for once, (N,) float64."""
    removal = Removal.of(batch, baseline)
    return batch.once(
        f"kept {baseline}", lambda: batch.score(removal.keep_only(batch.mask[None])[0])
    )


def _absent(batch: MetricBatch) -> list[tuple[AbsenceReason, Tensor]]:
    empty = ~batch.mask.flatten(1).any(dim=1)
    return [*batch.unusable, (AbsenceReason.EMPTY_MASK, empty)]

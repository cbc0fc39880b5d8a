# SPDX-License-Identifier: Apache-2.0
"""The best of several fractions by energy, area and compactness together."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from explain.errors import InvalidInputError, InvalidParameterError
from explain.numpy_maps import kept_count
from explain.thresholds.compactness import compactness
from explain.thresholds.confidence_search import candidate_masks
from explain.thresholds.masked_scores import MaskedScores
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdResult,
    require_context,
)
from explain.thresholds.selection import Ranked, keep, ranked


@dataclass(frozen=True, slots=True)
class Hybrid:
    """Keeps the candidate fraction of the highest score, the smallest of equals.

    The score is energy * E + sparsity * (1 - area) + compact * C + confidence * F,
    with E the energy retained, C the compactness and F the share of the target's
    probability that the masked input keeps, up to 1. The weights are a convention.
    """

    candidates: tuple[float, ...] = (
        0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50,
    )  # fmt: skip
    energy: float = 1.0
    sparsity: float = 1.0
    compact: float = 0.5
    confidence: float = 0.0
    sigma: float = 10.0
    floor: float = 0.0

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "hybrid"

    @property
    def needs(self) -> frozenset[Need]:
        """The inputs and a way to score others, where confidence has a weight."""
        if self.confidence == 0:
            return frozenset()
        return frozenset({Need.INPUTS, Need.PROBABILITIES, Need.SCORE})

    @property
    def cut_based(self) -> bool:
        """Every candidate is a cut."""
        return True

    @property
    def passes(self) -> float:
        """One forward pass a candidate, where confidence has a weight."""
        return float(len(self.candidates)) if self.confidence else 0.0

    def __post_init__(self) -> None:
        for candidate in self.candidates:
            kept_count(candidate, 1)
        if not self.energy + self.sparsity + self.compact + self.confidence:
            raise InvalidParameterError(
                "Policy 'hybrid' has no weight above 0, so that no fraction is better"
                " than another; give energy, sparsity, compact or confidence one."
            )

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return the masks of the best candidates.

        Shape: maps (N, H, W) or (N, L) float32.
        """
        given = require_context(self, context)
        if maps.ndim not in {2, 3}:
            raise InvalidInputError(
                f"Policy 'hybrid' judges shapes, so it expects maps (N, H, W) or"
                f" (N, L), got {tuple(maps.shape)}."
            )
        order = ranked(maps)
        counts = torch.tensor(
            [kept_count(part, order.positions) for part in sorted(self.candidates)],
            device=maps.device,
        )
        kept = torch.minimum(counts[None], order.positives[:, None])
        masks = candidate_masks(order, kept)
        score = self._score(order, kept, masks)
        halved = False
        if self.confidence:
            scores = MaskedScores.of(self.name, maps, given, self.sigma)
            assert given.probabilities is not None  # noqa: S101 - checked above
            whole = given.probabilities.to(maps.device).double()[:, None]
            share = (scores(masks) / whole).nan_to_num(0.0).clamp(max=1.0)
            score, halved = score + self.confidence * share, scores.halved
        best = kept.gather(1, score.argmax(dim=1, keepdim=True)).squeeze(1)
        return replace(keep(order, best, floor=self.floor), halved=halved)

    def _score(self, order: Ranked, kept: Tensor, masks: Tensor) -> Tensor:
        """Return the candidates' scores without confidence, (N, K) float64."""
        shapes = torch.stack([compactness(mask) for mask in masks.unbind(1)], dim=1)
        return (
            self.energy * order.energy_at(kept).nan_to_num(0.0)
            + self.sparsity * (1 - kept.double() / order.positions)
            + self.compact * shapes
        )

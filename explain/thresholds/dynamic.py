# SPDX-License-Identifier: Apache-2.0
"""The dynamic search: the smallest mask that keeps a share of what matters.

By energy, a share of the map's mass, which costs nothing; by confidence, a share of
the target's probability, which costs thirteen forward passes.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from explain.errors import InvalidParameterError
from explain.thresholds.confidence_search import PASSES, search
from explain.thresholds.masked_scores import MaskedScores
from explain.thresholds.mass import mass_counts
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdResult,
    require_context,
)
from explain.thresholds.selection import keep, ranked

_FORMS = ("energy", "confidence")


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Keeps the smallest mask with tau of the energy, or q of the probability.

    The default share of energy, 0.2, is that of the paper's own code, whose search
    is the one by energy.
    """

    by: str = "energy"
    tau: float = 0.2
    q: float = 0.9
    sigma: float = 10.0
    floor: float = 0.0

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "dynamic"

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing by energy; by confidence the inputs and a way to score others."""
        if self.by == "energy":
            return frozenset()
        return frozenset({Need.INPUTS, Need.PROBABILITIES, Need.SCORE})

    @property
    def cut_based(self) -> bool:
        """Every mask is a cut."""
        return True

    @property
    def passes(self) -> float:
        """None by energy; by confidence ten fractions and three bisections."""
        return 0.0 if self.by == "energy" else float(PASSES)

    def __post_init__(self) -> None:
        if self.by not in _FORMS:
            raise InvalidParameterError(
                f"Expected the search to be by {' or '.join(_FORMS)}, got {self.by!r}."
            )

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return the smallest masks that reach the share.

        Shape: maps (N, *positions) float32; by confidence (N, H, W), at the size of
        the inputs.

        Raises:
            MissingContextError: by confidence, inputs, probabilities or score are
                unknown.
        """
        given = require_context(self, context)
        order = ranked(maps)
        if self.by == "energy":
            return keep(order, mass_counts(order, self.tau), floor=self.floor)
        assert given.probabilities is not None  # noqa: S101 - require_context saw to it
        scores = MaskedScores.of(self.name, maps, given, self.sigma)
        whole = given.probabilities.to(maps.device).double()
        found = search(order, scores, whole * self.q)
        result = keep(order, found.counts, floor=self.floor, reached=found.reached)
        return replace(result, halved=scores.halved)

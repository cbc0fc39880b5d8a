# SPDX-License-Identifier: Apache-2.0
"""What a search found, as a document with a digest. No torch here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from explain.optimise.digest import digest_of
from explain.optimise.objectives import Objective
from explain.optimise.pareto import hypervolume
from explain.optimise.space import Choice, Space

_SCHEMA = "affidavit.pareto-front/1"


@dataclass(frozen=True, slots=True)
class Point:
    """A choice and its values, in the order of the objectives."""

    choice: Choice
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A choice that could not be measured, and why."""

    choice: Choice
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoFront:
    """What a search found.

    Attributes:
        points: That no other point dominates, the best in the first objective first.
        evaluated: All points, in the order in which they were measured.
        refused: What could not be measured.
        objectives: What the values mean.
        space: What was searched.
        trials: Most choices to measure.
        seed: Of the sampler.
    """

    points: tuple[Point, ...]
    evaluated: tuple[Point, ...]
    refused: tuple[Refusal, ...]
    objectives: tuple[Objective, ...]
    space: Space
    trials: int
    seed: int

    @property
    def hypervolume(self) -> float:
        """Share of the box between the objectives' ends that the front dominates."""
        rows = [gains_of(self.objectives, point.values) for point in self.points]
        # What is better than the best end is as good as it.
        return hypervolume([[min(gain, 1.0) for gain in row] for row in rows])

    def document(self) -> dict[str, Any]:
        """Return the front as plain values; ``evaluated`` by its number alone."""
        return {
            "schema": _SCHEMA,
            "space": self.space.document(),
            "objectives": [asdict(one) for one in self.objectives],
            "points": [
                {"choice": point.choice.document(), "values": list(point.values)}
                for point in self.points
            ],
            "refused": [
                {"choice": one.choice.document(), "reason": one.reason}
                for one in self.refused
            ],
            "evaluated": len(self.evaluated),
            "hypervolume": self.hypervolume,
            "trials": self.trials,
            "seed": self.seed,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the document as JSON with sorted keys, in hexadecimal."""
        return digest_of(self.document())


def gains_of(objectives: Sequence[Objective], values: Sequence[float]) -> list[float]:
    """Return the values on the scales of their objectives."""
    return [
        objective.gain(value)
        for objective, value in zip(objectives, values, strict=True)
    ]

# SPDX-License-Identifier: Apache-2.0
"""Connected: the highest unit and what grows from it, one touching unit at a time.

    S_1 = {argmax of the map},
    S_k+1 = S_k with the highest positive unit that touches S_k

until ceil(keep * n) units are kept or nothing positive touches them; of equal values
the lowest index comes first. What is kept is in one piece, so it may leave out a high
unit that only low ones would join. It is the order in which Prim's algorithm takes
nodes, with the values of nodes for weights.

Source: Prim 1957, "Shortest connection networks and some generalizations", principle 2.
"""

import heapq
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from explain.errors import InvalidInputError
from explain.numpy_maps import kept_count
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdResult,
    require_context,
)
from explain.thresholds.shaped import grid, shaped_result
from explain.thresholds.status import ThresholdStatus


@dataclass(frozen=True, slots=True)
class Connected:
    """Keeps one connected piece of the given fraction of units, where one grows."""

    keep: float

    needs: ClassVar[frozenset[Need]] = frozenset({Need.NEIGHBOURS})
    cut_based: ClassVar[bool] = False
    passes: ClassVar[float] = 0.0

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "connected"

    def __post_init__(self) -> None:
        kept_count(self.keep, 1)

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return masks of one piece each.

        Shape: maps (1, h, w) float32, neighbours (h * w, h * w) bool.

        Raises:
            MissingContextError: which units touch is unknown.
            InvalidInputError: more items than one, or neighbours of another size.
        """
        neighbours = require_context(self, context).neighbours
        pictures = grid(self.name, maps)
        flat = pictures.maps.flatten(1)
        units = flat.shape[1]
        if neighbours is None or len(flat) != 1 or neighbours.shape != (units, units):
            given = None if neighbours is None else tuple(neighbours.shape)
            raise InvalidInputError(
                f"Policy 'connected' takes one item at a time, with neighbours of shape"
                f" {(units, units)}; got {len(flat)} items and {given}."
            )
        mask = np.zeros(units, dtype=np.bool_)
        if bool(pictures.usable[0]):
            mask[
                _grown(
                    flat[0].cpu().numpy(),
                    neighbours.cpu().numpy(),
                    kept_count(self.keep, units),
                )
            ] = True
        found = torch.from_numpy(mask).to(maps.device).view(pictures.maps.shape)
        result = shaped_result(pictures, found, requested=self.keep)
        short = (result.codes == ThresholdStatus.OK.code) & (
            result.kept < kept_count(self.keep, units)
        )
        lacking = ThresholdStatus.INSUFFICIENT_SUPPORT.code
        return replace(
            result, codes=torch.where(short, lacking, result.codes).to(torch.int8)
        )


def _grown(
    values: npt.NDArray[np.float32], neighbours: npt.NDArray[np.bool_], count: int
) -> list[int]:
    """Return the kept units in the order in which they are taken."""
    first = int(values.argmax())
    waiting = [(-float(values[first]), first)]
    seen = {first}
    taken: list[int] = []
    while waiting and len(taken) < count:
        _value, unit = heapq.heappop(waiting)
        taken.append(unit)
        for other in np.flatnonzero(neighbours[unit]).tolist():
            if other not in seen and values[other] > 0:
                seen.add(other)
                heapq.heappush(waiting, (-float(values[other]), other))
    return taken

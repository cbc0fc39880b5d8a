# SPDX-License-Identifier: Apache-2.0
"""ROAD: the score as ranked pixels are imputed from their surroundings.

    morf = mean over p of f(x with the top-ranked share p imputed)
    lerf = mean over p of f(x with the lowest-ranked share p imputed)

Source: Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for
Attribution Methods", sections 4 and 5.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.metrics.batch import Draw, MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.removal import IMPUTATION_NOISE, imputed_copies


@dataclass(frozen=True, slots=True)
class Road:
    """Score with the most, and with the least relevant pixels imputed."""

    percentages: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    noise: float = IMPUTATION_NOISE
    score: str = "probability"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "road"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``road_morf``, ``road_lerf``, ``road_gap``; two passes a share."""
        pixels = batch.maps[0].numel()
        counts = [int(share * pixels + 0.5) for share in self.percentages]
        several, ranks = len(counts), batch.ranks
        # First the highest ranks go, then the lowest.
        first = torch.tensor([*counts, *[0] * several], device=ranks.device)
        last = torch.tensor(
            [*[pixels] * several, *(pixels - count for count in counts)],
            device=ranks.device,
        )

        def make(start: int, stop: int) -> Tensor:
            low, high = first[start:stop], last[start:stop]
            kept = ranks >= low[:, None, None, None]
            kept &= ranks < high[:, None, None, None]
            numbers = [Draw.IMPUTATION + 1 + copy for copy in range(start, stop)]
            return imputed_copies(batch, kept, self.noise, numbers)

        scores = batch.scores(2 * several, make, self.score)
        most, least = scores[:several].mean(dim=0), scores[several:].mean(dim=0)
        found = {"road_morf": most, "road_lerf": least, "road_gap": least - most}
        return {key: column(value, batch.unusable) for key, value in found.items()}

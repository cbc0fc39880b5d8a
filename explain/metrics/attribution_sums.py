# SPDX-License-Identifier: Apache-2.0
"""Do parts with more attribution matter more, and by as much as the map says?

    correlation: Pearson over random sets S of (sum_S a, f(x) - f(x_S = b))
    estimate:    the same over the groups of pixels in order of rank, each alone
    infidelity:  mean over perturbations I of (beta I.a - (f(x) - f(x - I)))^2

Where the network is linear and the map is a_i = w_i (x_i - b_i), the first two are 1
and the last is 0.

Sources: Bhatt, Weller and Moura 2020, "Evaluating and Aggregating Feature-based Model
Explanations", definition 3; Alvarez-Melis and Jaakkola 2018, "Towards Robust
Interpretability with Self-Explaining Neural Networks", section 4; Yeh et al. 2019, "On
the (In)fidelity and Sensitivity of Explanations", definition 2.1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import Draw, MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.correlation import pearson, varies
from explain.metrics.removal import Removal


@dataclass(frozen=True, slots=True)
class FaithfulnessCorrelation:
    """Correlation of attribution and effect over random sets of cells."""

    samples: int = 50
    grid: int = 14
    share: float = 0.2
    baseline: str = "zero"
    score: str = "logit"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "faithfulness_correlation"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``faithfulness_correlation``; one forward pass a sample."""
        cells = cell_of_pixel(batch, self.grid)
        count = int(cells.max()) + 1
        chosen = self._chosen(batch, count)
        sums = torch.zeros(
            len(batch.maps), count, dtype=torch.float64, device=cells.device
        )
        flat = batch.maps.flatten(1).double()
        sums.scatter_add_(1, cells.flatten().expand_as(flat), flat)
        attributed = torch.where(chosen, sums, 0.0).sum(dim=2)
        removal = Removal.of(batch, self.baseline)

        def make(start: int, stop: int) -> Tensor:
            return removal.keep_only(~chosen[start:stop][:, :, cells])

        scores = batch.scores(self.samples, make, self.score)
        return {self.name: _correlated(batch, attributed, scores, self.score)}

    def _chosen(self, batch: MetricBatch, cells: int) -> Tensor:
        """Return which cells are in each set, (samples, N, cells) bool.

        A set is those cells whose draws are lowest, which takes none twice.
        """
        keys = batch.draws.uniform(Draw.SUBSETS, (self.samples, cells))
        size = max(1, round(self.share * cells))
        order = keys.argsort(dim=2, stable=True)[:, :, :size]
        chosen = torch.zeros(keys.shape, dtype=torch.bool).scatter_(2, order, True)
        return chosen.transpose(0, 1).to(batch.maps.device)


@dataclass(frozen=True, slots=True)
class FaithfulnessEstimate:
    """Correlation of attribution and effect over groups of equal rank."""

    steps: int = 20
    baseline: str = "zero"
    score: str = "logit"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "faithfulness_estimate"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``faithfulness_estimate``; one forward pass a group."""
        pixels = batch.maps[0].numel()
        # Group of a pixel by its rank: equal parts up to one pixel.
        groups = batch.ranks.long() * self.steps // pixels
        sums = torch.zeros(
            len(groups), self.steps, dtype=torch.float64, device=groups.device
        )
        sums.scatter_add_(1, groups.flatten(1), batch.maps.flatten(1).double())
        removal = Removal.of(batch, self.baseline)

        def make(start: int, stop: int) -> Tensor:
            numbers = torch.arange(start, stop, device=groups.device)
            return removal.keep_only(groups != numbers[:, None, None, None])

        scores = batch.scores(self.steps, make, self.score)
        return {self.name: _correlated(batch, sums.T, scores, self.score)}


@dataclass(frozen=True, slots=True)
class Infidelity:
    """Mean squared error of the effect that the map predicts of a perturbation."""

    samples: int = 50
    perturbation: str = "square"
    side: float = 0.25
    noise: float = 0.2
    normalise: bool = True
    baseline: str = "zero"
    score: str = "logit"

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "infidelity"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``infidelity``; one forward pass a sample."""
        if self.perturbation == "square":
            predicted, scores = self._squares(batch)
        else:
            predicted, scores = self._noise(batch)
        effect = batch.full_scores(self.score) - scores
        squares = predicted.square().mean(dim=0)
        absent = list(batch.unusable)
        if self.normalise:
            predicted = predicted * (predicted * effect).mean(dim=0) / squares
            absent.append((AbsenceReason.NO_VARIATION, squares == 0))
        error = (predicted - effect).square().mean(dim=0)
        return {"infidelity": column(error, absent)}

    def _squares(self, batch: MetricBatch) -> tuple[Tensor, Tensor]:
        """Return I.a and f(x - I) of squares taken to the baseline, (S, N) each."""
        height, width = batch.maps.shape[1:]
        side = max(1, round(self.side * min(height, width)))
        draws = batch.draws.uniform(Draw.PERTURBATIONS, (self.samples, 2))
        room = torch.tensor([height - side + 1, width - side + 1])
        # A draw just below 1 must not round up to a place outside.
        corners = torch.minimum(((draws + 1) / 2 * room).long(), room - 1)
        corners = corners.transpose(0, 1).to(batch.maps.device)
        rows = torch.arange(height, device=batch.maps.device)
        columns = torch.arange(width, device=batch.maps.device)

        def inside(start: int, stop: int) -> Tensor:
            top, left = corners[start:stop, :, :1], corners[start:stop, :, 1:]
            across = (columns >= left) & (columns < left + side)
            down = (rows >= top) & (rows < top + side)
            return down[..., :, None] & across[..., None, :]

        removal = Removal.of(batch, self.baseline)
        predicted = torch.stack(
            [
                torch.where(inside(k, k + 1)[0], batch.maps, 0.0)
                .sum(dim=(1, 2), dtype=torch.float64)
                for k in range(self.samples)
            ]
        )  # fmt: skip
        scores = batch.scores(
            self.samples,
            lambda start, stop: removal.keep_only(~inside(start, stop)),
            self.score,
        )
        return predicted, scores

    def _noise(self, batch: MetricBatch) -> tuple[Tensor, Tensor]:
        """Return I.a and f(x - I) of normal noise, (S, N) each."""
        predicted: list[Tensor] = []
        shape = tuple(batch.inputs.shape[1:])

        def make(start: int, stop: int) -> Tensor:
            del predicted[start:]  # a pass that had to be halved is made again
            copies = []
            for sample in range(start, stop):
                grain = batch.draws.normal(Draw.PERTURBATIONS + sample, shape)
                grain = grain.to(batch.inputs) * self.noise
                flat = grain.double().sum(dim=1) * batch.maps
                predicted.append(flat.sum(dim=(1, 2)))
                copies.append(batch.inputs - grain)
            return torch.stack(copies)

        scores = batch.scores(self.samples, make, self.score)
        return torch.stack(predicted), scores


def cell_of_pixel(batch: MetricBatch, grid: int) -> Tensor:
    """Return the number of each pixel's cell, (H, W) int64.

    Cells are equal parts of the sides up to one pixel; a side shorter than the grid
    has a cell a pixel.
    """
    height, width = batch.maps.shape[1:]
    rows, columns = min(grid, height), min(grid, width)
    device = batch.maps.device
    down = torch.arange(height, device=device) * rows // height
    across = torch.arange(width, device=device) * columns // width
    return down[:, None] * columns + across[None, :]


def _correlated(
    batch: MetricBatch, attributed: Tensor, scores: Tensor, kind: str
) -> MetricColumn:
    """Return the correlation of attribution and effect.

    Shape: attributed, scores (S, N).
    """
    effect = batch.full_scores(kind) - scores
    moved = scores.detach()
    still = torch.isfinite(moved).all(dim=0) & ~varies(moved)
    flat = torch.isfinite(attributed).all(dim=0) & ~varies(attributed)
    return column(
        pearson(attributed, effect),
        [
            *batch.unusable,
            (AbsenceReason.ZERO_CHANGE, still),
            (AbsenceReason.NO_VARIATION, flat),
        ],
    )

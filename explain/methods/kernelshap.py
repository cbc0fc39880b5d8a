# SPDX-License-Identifier: Apache-2.0
"""KernelSHAP on superpixels: Shapley values by weighted least squares.

    min over phi of  sum_z pi(z) (y(x_z) - y(b) - phi . z)^2
    subject to  sum phi = y(x) - y(b)

z says which superpixels show the input, the others show the baseline b. A pixel has
its superpixel's phi divided by its pixels, so that the map too sums to the change
of the output.

Source: Lundberg and Lee 2017, "A Unified Approach to Interpreting Model
Predictions", theorem 2 and section 4.1.
"""

import math

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.chunking import per_pass
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.methods.coalitions import coalitions
from explain.methods.input_forward import as_columns, plain_forward
from explain.methods.method import Attribution
from explain.methods.perturbed_scores import (
    logit,
    perturbation_attribution,
    perturbed_scores,
)
from explain.methods.superpixels import (
    Superpixels,
    own_draws,
    part_baseline,
    superpixels,
)

#: Eigenvalues below this share of the largest count as undecided.
_RANK = 1e-10


class KernelShap:
    """KernelSHAP of one model on superpixels."""

    name = "kernelshap"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        samples: int = 1000,
        segments: int = 50,
        segmentation: str = "slic",
        baseline: str = "zero",
    ) -> None:
        self._model = model
        self._samples = samples
        self._segments = segments
        self._segmentation = segmentation
        self._baseline = baseline

    @property
    def passes(self) -> float:
        """One forward pass a sample, and one for the whole input."""
        return 1.0 + self._samples

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the Shapley value of each superpixel, spread over its pixels.

        The game is the target's logit; ``output_change`` is y(x) - y(b), which the
        map sums to. Exact where every coalition can be asked within the samples.
        All targets of an item share the coalitions and their forward passes.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W).

        Raises:
            InvalidInputError: the context's images do not fit the inputs.
            InvalidTargetError: a target class the model does not have.
        """
        given = ItemContext.of(inputs, context)
        with frozen(self._model), torch.no_grad():
            logits, classes = plain_forward(self._model, inputs, targets)
            parts = superpixels(
                inputs, given.images, self._segmentation, self._segments
            )
            baseline = part_baseline(inputs, parts, self._baseline)
            asked = [
                self._asked(count, own_draws(given.draws, item))
                for item, count in enumerate(parts.counts)
            ]
            size = min(per_pass(len(inputs), given.chunk), self._samples)
            switches = _padded(asked, parts, size).to(inputs.device)

            scores, halved = perturbed_scores(
                self._model,
                classes,
                switches.shape[1],
                size,
                parts.switched(inputs, baseline, switches),
                logit,
            )
            whole = logit(logits[:, None], as_columns(classes))[:, 0]
            values = scores.new_zeros(*whole.shape, max(parts.counts))
            same = (inputs == baseline).flatten(1).all(dim=1)[:, None]
            blank = same.expand_as(whole).clone()
            # One system an item: padded to a common size, its last bits would
            # depend on the superpixels of its neighbours.
            for item, (rows, weights) in enumerate(asked):
                seen = scores[item, : len(rows)]
                blank[item] |= (seen == whole[item]).all(dim=0)
                gains = seen[1:] - seen[0]
                change = whole[item] - seen[0]
                phi = shapley(rows[1:].to(seen), gains, weights.to(seen), change)
                values[item, :, : parts.counts[item]] = phi.T
            maps = parts.spread(values / parts.areas[:, None])
            changes = torch.where(blank, 0.0, whole - scores[:, 0])
        return perturbation_attribution(
            logits, classes, maps, blank, halved=halved, output_change=changes
        )

    def _asked(self, parts: int, draws: ItemDraws) -> tuple[Tensor, Tensor]:
        """Return an item's coalitions, the empty one first, and the others' weights."""
        rows, weights = coalitions(
            parts, self._samples - 1, lambda shape: draws.uniform(0, shape)[0]
        )
        return torch.cat([torch.zeros(1, parts, dtype=torch.bool), rows]), weights


def shapley(rows: Tensor, gains: Tensor, weights: Tensor, change: Tensor) -> Tensor:
    """Return the values that explain the gains best among those that sum to change.

    What they have in common is fixed by the sum; what they differ by is solved for
    in the space of differences, as small as possible where the coalitions are too
    few to decide it.

    Shape: rows (R, S), gains (R, T), weights (R,), change (T,) -> (S, T), float64.
    """
    parts = rows.shape[1]
    equal = (change / parts).expand(parts, -1)
    weighted = rows.T * weights
    normal = weighted @ rows
    eye = torch.eye(parts, dtype=rows.dtype, device=rows.device)
    difference: Tensor = eye - 1 / parts
    inverse: Tensor = torch.linalg.pinv(
        difference @ normal @ difference, rtol=_RANK, hermitian=True
    )
    phi: Tensor = equal + difference @ inverse @ (weighted @ gains - normal @ equal)
    return phi


def _padded(
    asked: list[tuple[Tensor, Tensor]], parts: Superpixels, size: int
) -> Tensor:
    """Return all items' coalitions, filled up with full ones to whole passes.

    An item's every pass then has one shape, however many coalitions its neighbours
    have.

    Shape: (N, P, S) bool, P a multiple of the pass size.
    """
    longest = max(len(rows) for rows, _ in asked)
    total = math.ceil(longest / size) * size
    padded = torch.ones(len(asked), total, max(parts.counts), dtype=torch.bool)
    for item, (rows, _) in enumerate(asked):
        padded[item, : len(rows), : rows.shape[1]] = rows
    return padded

# SPDX-License-Identifier: Apache-2.0
"""RISE: the mean of random masks, weighted with the score that they leave.

    map[l] = 1 / (p n) sum_i f(x * M_i) M_i[l],   p = E[M]

Each mask is a coarse random grid of ones and zeros, upsampled bilinearly over one
cell more than the input in each direction and cut out at a random shift.

Source: Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of
Black-box Models", equation 6 and section 3.2.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.chunking import in_pieces, per_pass
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.maps import upsample
from explain.methods.input_forward import as_columns, plain_forward, working_dtype
from explain.methods.method import Attribution
from explain.methods.perturbed_scores import (
    perturbation_attribution,
    perturbed_scores,
    probability,
    unmoved,
)

#: From a range of masks to these, (k, H, W).
MakeMasks = Callable[[int, int], Tensor]


class Rise:
    """Randomised input sampling of one model."""

    name = "rise"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        masks: int = 1000,
        grid: int = 8,
        keep_probability: float = 0.5,
    ) -> None:
        self._model = model
        self._masks = masks
        self._grid = grid
        self._keep_probability = keep_probability

    @property
    def passes(self) -> float:
        """One forward pass a mask, and one for the whole input."""
        return 1.0 + self._masks

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the masks' mean, weighted with the target's softmax probability.

        Every item of a run is asked with the same masks, and all targets share the
        forward passes. Masks are made anew for each pass and not kept.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W).

        Raises:
            InvalidTargetError: a target class the model does not have.
        """
        given = ItemContext.of(inputs, context)
        with frozen(self._model), torch.no_grad():
            logits, classes = plain_forward(self._model, inputs, targets)
            base = inputs.to(working_dtype(inputs))[:, None]
            size = (int(inputs.shape[2]), int(inputs.shape[3]))
            masks = self._maker(given.draws, size, inputs.device)

            def masked(start: int, stop: int) -> Tensor:
                return (base * masks(start, stop)[:, None]).to(inputs.dtype)

            step = per_pass(len(inputs), given.chunk)
            scores, halved = perturbed_scores(
                self._model, classes, self._masks, step, masked, probability
            )
            sums, fewer = _weighted_sums(scores, masks, step, size)
            maps = sums / (self._keep_probability * self._masks)
            whole = probability(logits[:, None], as_columns(classes))[:, 0]
            blank = unmoved(scores, whole, inputs)
        return perturbation_attribution(
            logits, classes, maps, blank, halved=halved or fewer
        )

    def _maker(
        self, draws: ItemDraws, size: tuple[int, int], device: torch.device
    ) -> MakeMasks:
        """Return what gives a range of the run's masks, (k, H, W) float32."""
        grid, keep = self._grid, self._keep_probability
        cells = [math.ceil(side / grid) for side in size]
        large = ((grid + 1) * cells[0], (grid + 1) * cells[1])

        def masks(start: int, stop: int) -> Tensor:
            numbers = torch.stack(
                [
                    draws.shared_uniform(mask, (grid * grid + 2,))
                    for mask in range(start, stop)
                ]
            )
            # Uniform in [-1, 1): below 2 p - 1 with probability p.
            kept = (numbers[:, 2:] < 2 * keep - 1).float().view(-1, grid, grid)
            # The shifts are known on the CPU, so that slicing waits for no device.
            shifts = ((numbers[:, :2] + 1) / 2 * torch.tensor(cells)).long().tolist()
            return torch.stack(
                [
                    mask[down : down + size[0], right : right + size[1]]
                    for mask, (down, right) in zip(
                        upsample(kept.to(device, non_blocking=True), large),
                        shifts,
                        strict=True,
                    )
                ]
            )

        return masks


def _weighted_sums(
    scores: Tensor, masks: MakeMasks, step: int, size: tuple[int, int]
) -> tuple[Tensor, bool]:
    """Return the sum of score times mask, and whether its pieces were halved.

    Shape: scores (N, P, T) -> (N, T, H, W) float64.
    """
    items, total, targets = scores.shape
    sums = scores.new_zeros(items, targets, size[0] * size[1])

    def add(start: int, stop: int) -> None:
        flat = masks(start, stop).flatten(1).double()
        weights = scores[:, start:stop].transpose(1, 2).contiguous()
        # One product an item: its bits then do not depend on neighbours.
        sums.baddbmm_(weights, flat.expand(items, -1, -1))

    halved = in_pieces(total, step, add)
    return sums.view(items, targets, *size), halved

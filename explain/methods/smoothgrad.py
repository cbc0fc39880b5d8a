# SPDX-License-Identifier: Apache-2.0
"""SmoothGrad: the input gradient averaged over noisy copies of the input.

    M[c, i, j] = 1/n sum_s d y / d x[c, i, j] at x + e_s,  e_s ~ N(0, (sigma r)^2)
    map[i, j] = max over channels c of |M[c, i, j]|

with r the range of the item's values. Gradients are averaged with their signs
and reduced over channels afterwards.

Source: Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise",
section 3; noise level and sample size from section 3.1.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.chunking import per_pass
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.gradient_sums import MakeVariants, weighted_gradients
from explain.methods.input_forward import (
    like_targets,
    plain_forward,
    spoiled,
    working_dtype,
)
from explain.methods.input_gradient import largest_magnitude
from explain.methods.method import Attribution


class SmoothGrad:
    """SmoothGrad of one model."""

    name = "smoothgrad"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        samples: int = 25,
        sigma: float = 0.15,
    ) -> None:
        self._model = model
        self._samples = samples
        self._sigma = sigma

    @property
    def passes(self) -> float:
        """One forward pass, then a forward and a whole backward pass a sample."""
        return 1.0 + 3.0 * self._samples

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the averaged gradient's largest magnitude over channels.

        Without targets the class predicted for the clean input is explained. All
        targets of an item share the noisy copies and their forward passes.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W).

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the class scores do not depend on the input.
        """
        given = ItemContext.of(inputs, context)
        with frozen(self._model):
            logits, classes = plain_forward(self._model, inputs, targets)
            total, halved = weighted_gradients(
                self._model,
                classes,
                [1 / self._samples] * self._samples,
                per_pass(len(inputs), given.chunk),
                self._noisy_copies(inputs.detach(), given),
            )
        with torch.no_grad():
            rows = largest_magnitude(total.flatten(0, 1)).float()
            maps = rows.view(*total.shape[:2], *rows.shape[1:])
            maps = spoiled(maps, logits, classes)
            blank = (total == 0).flatten(2).all(dim=2)
        return Attribution(
            logits=logits.float(),
            targets=classes,
            maps=like_targets(maps, classes),
            zero_gradient=like_targets(blank, classes),
            halved=halved,
        )

    def _noisy_copies(self, inputs: Tensor, context: ItemContext) -> MakeVariants:
        """Return what gives the noisy copies of a range of samples."""
        spread = inputs.amax(dim=(1, 2, 3)) - inputs.amin(dim=(1, 2, 3))
        reach = (self._sigma * spread.float())[:, None, None, None, None]
        base = inputs.to(working_dtype(inputs))[:, None]
        shape = tuple(inputs.shape[1:])

        def noisy(start: int, stop: int) -> Tensor:
            draws = [context.draws.normal(draw, shape) for draw in range(start, stop)]
            # A copy that blocks would wait for all that the device has yet to do.
            noise = torch.stack(draws, dim=1).to(inputs.device, non_blocking=True)
            return (base + noise * reach).to(inputs.dtype)

        return noisy

# SPDX-License-Identifier: Apache-2.0
"""Integrated gradients along the straight line from a baseline to the input.

    IG_i = (x_i - b_i) * integral over a in [0, 1] of d y / d x_i at b + a (x - b)
    map = sum of IG over channels

The integral is a quadrature sum over ``steps`` points. The map should sum to
y(x) - y(b); how far it does not is the convergence delta, which quadrature alone
decides.

Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks",
section 3, equation 1; completeness: Proposition 1.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.baselines import baseline_of
from explain.chunking import per_pass
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.gradient_sums import MakeVariants, weighted_gradients
from explain.methods.input_forward import (
    as_columns,
    like_targets,
    plain_forward,
    spoiled,
    working_dtype,
)
from explain.methods.method import Attribution


class IntegratedGradients:
    """Integrated gradients of one model."""

    name = "integrated_gradients"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        steps: int = 50,
        rule: str = "gausslegendre",
        baseline: str = "zero",
    ) -> None:
        self._model = model
        self._steps = steps
        self._rule = rule
        self._baseline = baseline

    @property
    def passes(self) -> float:
        """A forward and a whole backward pass a step, and a forward at each end."""
        return 2.0 + 3.0 * self._steps

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the signed integrated gradients, summed over channels.

        ``output_change`` is y(x) - y(b), so that the convergence delta is the map's
        sum minus it. Gradients are summed in float64. All targets of an item share
        the forward passes.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W).

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the class scores do not depend on the input.
        """
        given = ItemContext.of(inputs, context)
        with frozen(self._model):
            logits, classes = plain_forward(self._model, inputs, targets)
            baseline = baseline_of(inputs.detach(), self._baseline)
            base_logits, _ = plain_forward(self._model, baseline, None)
            points, weights = quadrature(self._rule, self._steps)
            total, halved = weighted_gradients(
                self._model,
                classes,
                weights,
                per_pass(len(inputs), given.chunk),
                _path(inputs.detach(), baseline, points),
            )
        with torch.no_grad():
            way = inputs.detach().double() - baseline.double()
            change = (logits.double() - base_logits.double()).gather(
                1, as_columns(classes)
            )
            exact = (total * way[:, None]).sum(dim=2)
            blank = (exact == 0).flatten(2).all(dim=2)
            # The change is not finite where either end is not.
            sound = torch.isfinite(change)[:, :, None, None]
            maps = torch.where(sound, exact, torch.nan).float()
        return Attribution(
            logits=logits.float(),
            targets=classes,
            maps=like_targets(spoiled(maps, logits, classes), classes),
            zero_gradient=like_targets(blank, classes),
            output_change=like_targets(change, classes),
            halved=halved,
        )


@lru_cache(maxsize=16)
def quadrature(rule: str, steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return points in [0, 1] and their weights, which sum to one.

    ``gausslegendre`` is exact for polynomials up to degree 2 steps - 1;
    ``riemann_trapezoid`` has equally spaced points with both ends at half weight.
    """
    if rule == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        nodes, weights = (1 + nodes) / 2, weights / 2
    else:
        nodes = np.linspace(0.0, 1.0, steps)
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
    return tuple(nodes.tolist()), tuple(weights.tolist())


def _path(inputs: Tensor, baseline: Tensor, points: tuple[float, ...]) -> MakeVariants:
    """Return what gives the images of a range of points between the two."""
    base = baseline.to(working_dtype(inputs))[:, None]
    way = inputs.to(base.dtype)[:, None] - base
    places = torch.tensor(points, dtype=base.dtype)
    # A copy that blocks would wait for all that the device has yet to do.
    places = places.to(inputs.device, non_blocking=True)

    def between(start: int, stop: int) -> Tensor:
        share = places[start:stop, None, None, None]
        return (base + share * way).to(inputs.dtype)

    return between

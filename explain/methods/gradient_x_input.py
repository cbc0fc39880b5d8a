# SPDX-License-Identifier: Apache-2.0
"""Gradient x input: the first-order share of each place in the target's logit.

    map[i, j] = sum_c x_c[i, j] * d y / d x_c[i, j]

Of units behind gates (`explain.gates`), whose gates are 1, that is d y / d gate.

Source: Shrikumar et al. 2016, "Not Just a Black Box: Learning Important Features
Through Propagating Activation Differences", section 1.
"""

from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.input_forward import input_forward
from explain.methods.method import Attribution, chosen_targets


class GradientXInput:
    """Gradient x input of one model."""

    name = "gradient_x_input"
    #: A forward pass, and a backward pass through every layer.
    passes = 3.0

    def __init__(self, model: nn.Module, layer: TappedLayer | None = None) -> None:  # noqa: ARG002 - every method is built alike
        self._model = model

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the signed products, summed over channels.

        Each further target costs one more backward pass.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W).

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the class scores do not depend on the input.
        """
        with frozen(self._model):
            forward = input_forward(self._model, inputs)
            classes = chosen_targets(forward.logits, targets)
            given = forward.root.detach()

            def times_input(gradient: Tensor) -> Tensor:
                return (gradient * given).sum(dim=1)

            return forward.attribution(classes, times_input)

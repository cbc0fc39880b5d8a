# SPDX-License-Identifier: Apache-2.0
"""The plain gradient of the class score at the input.

    map[i, j] = max over channels c of |d y / d x[c, i, j]|

Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks: Visualising
Image Classification Models and Saliency Maps", section 3.1.
"""

from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.input_forward import InputForward, input_forward
from explain.methods.method import Attribution, chosen_targets


class InputGradient:
    """The input gradient of one model."""

    name = "input_gradient"

    def __init__(self, model: nn.Module, layer: TappedLayer | None = None) -> None:  # noqa: ARG002 - every method is built alike
        self._model = model

    @property
    def passes(self) -> float:
        """One forward and one whole backward pass, which counts two."""
        return 3.0

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the gradient's largest magnitude over channels.

        Each further target costs one more backward pass. The model is given back
        as it was, also when it raises.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W).

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the class scores do not depend on the input.
        """
        with frozen(self._model):
            forward = self.forward(inputs)
            classes = chosen_targets(forward.logits, targets)
            return forward.attribution(classes, largest_magnitude)

    def forward(self, inputs: Tensor) -> InputForward:
        """Return the forward pass whose gradient at the input makes the map."""
        return input_forward(self._model, inputs)


def largest_magnitude(gradient: Tensor) -> Tensor:
    """Return each place's largest magnitude over channels; NaN is handed on.

    Shape: (N, C, H, W) -> (N, H, W).
    """
    return gradient.abs().amax(dim=1)

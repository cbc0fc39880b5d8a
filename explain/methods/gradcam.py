# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM from one split forward pass.

    w_k = mean_ij d y_c / d A_k[i, j]
    map = ReLU(sum_k w_k A_k)

Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks
via Gradient-based Localization", equations 1 and 2.
"""

from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.method import Attribution, chosen_targets
from explain.methods.split_forward import split_forward


class GradCam:
    """Grad-CAM at one layer of one model."""

    name = "gradcam"

    def __init__(self, model: nn.Module, layer: TappedLayer) -> None:
        self._model = model
        self._layer = layer

    @property
    def passes(self) -> float:
        """About one forward pass: the head's backward pass is small beside it."""
        return 1.1

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the Grad-CAM of each item's target; None means the predicted class.

        Costs one forward pass and the backward pass of the head, one more for each
        further target. Leaves the model's modes, gradients, hooks and
        ``requires_grad`` as they were, also when it raises. Weights and sums are
        float32 whatever the model's type.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the layer yields no map, or no score depends on it.
        """
        with frozen(self._model):
            forward = split_forward(self._model, self._layer, inputs)
            classes = chosen_targets(forward.logits, targets)
            return forward.attribution(classes, _gradcam)


def _gradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return ReLU(sum_k w_k A_k), w_k the mean gradient of channel k.

    Shape: (N, C, h, w) each -> (N, h, w).
    """
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1).relu_()

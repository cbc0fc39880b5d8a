# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM++: places share a channel's weight by the curvature of the score.

    g = d y_c / d A_k[i, j]
    alpha_k[i, j] = g^2 / (2 g^2 + (sum_ab A_k[a, b]) g^3 + epsilon)
    w_k = sum_ij alpha_k[i, j] ReLU(g)
    map = ReLU(sum_k w_k A_k)

The paper's class score is exp(y_c), whose second and third derivatives along a
piecewise linear network are powers of g times that exponential; the factor is
common to all and left out. The sum over the channel multiplies g^3 from outside.

``epsilon`` exists for equality with the field's reference implementation, which
adds 1e-6. Deep layers have gradients of that size squared, and it then moves the
map; epsilon = 0 is the paper's equation as it stands.

Source: Chattopadhay et al. 2018, "Grad-CAM++: Generalized Gradient-based Visual
Explanations for Deep Convolutional Networks", equations 10, 11 and 19.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.methods.layer_gradient import LayerGradientMethod


class GradCamPlusPlus(LayerGradientMethod):
    """Grad-CAM++ at one layer of one model."""

    name = "gradcam_plus_plus"

    def __init__(
        self, model: nn.Module, layer: TappedLayer, epsilon: float = 1e-6
    ) -> None:
        super().__init__(model, layer)
        self._epsilon = epsilon

    def rule(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return ReLU(sum_k w_k A_k), w_k the sum over places of alpha ReLU(g).

        Shape: (N, C, h, w) each -> (N, h, w).
        """
        mass = activation.sum(dim=(2, 3), keepdim=True)
        # Both sides of the fraction are divided by g^2, which would underflow.
        share = 1 / (2 + mass * gradient + self._epsilon / gradient / gradient)
        # Asked this way round, NaN gradients stay NaN instead of becoming 0.
        weighted = torch.where(gradient <= 0, 0.0, share * gradient)
        weights = weighted.sum(dim=(2, 3), keepdim=True)
        return (weights * activation).sum(dim=1).relu_()

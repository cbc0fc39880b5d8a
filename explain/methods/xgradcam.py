# SPDX-License-Identifier: Apache-2.0
"""XGrad-CAM: a channel's weight is its gradient, averaged by its own activation.

    w_k = sum_ij (A_k[i, j] / sum A_k) (d y_c / d A_k[i, j])
    map = ReLU(sum_k w_k A_k)

A channel whose activation sums to exactly 0 has no such average: it gets weight 0.
No small number is added to the sum, so that maps follow the activation's scale.
On a layer before its ReLU, positive and negative activation can nearly cancel in
the sum, and the weight is then large, as the formula has it.

Source: Fu et al. 2020, "Axiom-based Grad-CAM: Towards Accurate Visualization and
Explanation of CNNs", equation 8.
"""

import torch
from torch import Tensor

from explain.methods.layer_gradient import LayerGradientMethod


class XGradCam(LayerGradientMethod):
    """XGrad-CAM at one layer of one model."""

    name = "xgradcam"

    def rule(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return ReLU(sum_k w_k A_k), w_k the activation-weighted mean gradient.

        Shape: (N, C, h, w) each -> (N, h, w).
        """
        mass = activation.sum(dim=(2, 3), keepdim=True)
        product = (gradient * activation).sum(dim=(2, 3), keepdim=True)
        weights = torch.where(mass == 0, 0.0, product / mass)
        return (weights * activation).sum(dim=1).relu_()

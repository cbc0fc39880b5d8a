# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM from one split forward pass.

    w_k = mean_ij d y_c / d A_k[i, j]
    map = ReLU(sum_k w_k A_k)

Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks
via Gradient-based Localization", equations 1 and 2.
"""

from torch import Tensor

from explain.methods.layer_gradient import LayerGradientMethod


class GradCam(LayerGradientMethod):
    """Grad-CAM at one layer of one model."""

    name = "gradcam"

    def rule(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return ReLU(sum_k w_k A_k), w_k the mean gradient of channel k.

        Shape: (N, C, h, w) each -> (N, h, w).
        """
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        return (weights * activation).sum(dim=1).relu_()

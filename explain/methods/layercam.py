# SPDX-License-Identifier: Apache-2.0
"""LayerCAM: only gradients that speak for the class weigh their places.

    map = ReLU(sum_k ReLU(d y_c / d A_k[i, j]) A_k[i, j])

Source: Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps
for Localization", equations 6 to 8.
"""

from torch import Tensor

from explain.methods.layer_gradient import LayerGradientMethod


class LayerCam(LayerGradientMethod):
    """LayerCAM at one layer of one model."""

    name = "layercam"

    def rule(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return ReLU(sum_k ReLU(g_k) A_k).

        Shape: (N, C, h, w) each -> (N, h, w).
        """
        return (gradient.relu() * activation).sum(dim=1).relu_()

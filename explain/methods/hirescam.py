# SPDX-License-Identifier: Apache-2.0
"""HiResCAM: the gradient of each place weighs that place's activation.

    signed[i, j] = sum_k (d y_c / d A_k[i, j]) A_k[i, j]
    map = ReLU(signed)

Nothing is averaged over places, so that where everything after the layer is
linear up to a bias, the signed map sums to the score less that bias exactly.

Source: Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful
explanations of convolutional neural networks", section 3.2.
"""

from torch import Tensor

from explain.methods.layer_gradient import LayerGradientMethod


class HiResCam(LayerGradientMethod):
    """HiResCAM at one layer of one model."""

    name = "hirescam"

    def rule(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the signed map's positive part.

        Shape: (N, C, h, w) each -> (N, h, w).
        """
        return signed_hirescam(activation, gradient).relu_()


def signed_hirescam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return sum_k g_k A_k at each place, evidence against the class included.

    Shape: (N, C, h, w) each -> (N, h, w), in the type of the arguments.
    """
    return (gradient * activation).sum(dim=1)

# SPDX-License-Identifier: Apache-2.0
"""Guided Grad-CAM: the guided gradient, dimmed where Grad-CAM sees nothing.

    map = upsample(Grad-CAM) * max over channels of |guided gradient|

Grad-CAM is not negative, so that taking the largest magnitude over channels before
or after the product is the same.

Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks
via Gradient-based Localization", section 3.2.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.frozen import frozen
from explain.maps import upsample
from explain.methods.gradcam import GradCam
from explain.methods.guided_backprop import guided_forward
from explain.methods.input_gradient import largest_magnitude
from explain.methods.method import Attribution


class GuidedGradCam:
    """Guided Grad-CAM at one layer of one model."""

    name = "guided_gradcam"

    def __init__(self, model: nn.Module, layer: TappedLayer) -> None:
        self._model = model
        self._gradcam = GradCam(model, layer)

    @property
    def passes(self) -> float:
        """Grad-CAM, and one forward and whole backward pass, which count three."""
        return 4.1

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the Guided Grad-CAM of each item's target at the input's size.

        ``zero_gradient`` is true where it is of either factor.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W).

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the layer yields no map, or no score depends on it.
            UnsupportedModelError: the model has no ReLU to guide.
        """
        with frozen(self._model):
            coarse = self._gradcam.explain(inputs, targets, context)
            forward = guided_forward(self._model, inputs)
            fine = forward.attribution(coarse.targets, largest_magnitude)
        with torch.no_grad():
            size = (inputs.shape[2], inputs.shape[3])
            large = upsample(coarse.maps.flatten(0, -3), size)
            return Attribution(
                logits=coarse.logits,
                targets=coarse.targets,
                maps=large.view_as(fine.maps) * fine.maps,
                zero_gradient=coarse.zero_gradient | fine.zero_gradient,
            )

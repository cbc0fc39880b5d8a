# SPDX-License-Identifier: Apache-2.0
"""Eigen-CAM: what varies most over the places of the feature map.

    X = activation as (places, channels), each channel less its mean
    v = first right singular vector of X
    map = ReLU(X v)

The class plays no part: every target gets the same map. Singular vectors have no
sign of their own; here the map agrees with the activation's energy (the product of
the two, summed over places, is not negative), as it would without centring. X v is
found from the smaller of the two Gram matrices, in float64.

Source: Muhammad and Yeasin 2020, "Eigen-CAM: Class Activation Map using Principal
Components", section III; centred as in the field's reference implementation.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.method import Attribution, chosen_targets
from explain.methods.split_forward import split_forward


class EigenCam:
    """Eigen-CAM at one layer of one model."""

    name = "eigencam"

    def __init__(self, model: nn.Module, layer: TappedLayer) -> None:
        self._model = model
        self._layer = layer

    @property
    def passes(self) -> float:
        """One forward pass."""
        return 1.0

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the map of each item, the same for each of its targets.

        ``zero_gradient`` marks items whose activation does not vary over places.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the layer yields no map.
        """
        with frozen(self._model):
            forward = split_forward(self._model, self._layer, inputs, graph=False)
        classes = chosen_targets(forward.logits, targets)
        with torch.no_grad():
            maps = signed_eigencam(forward.activation.float()).float().relu_()
        blank = (maps == 0).flatten(1).all(dim=1)
        if classes.ndim == 2:
            count = classes.shape[1]
            maps = maps[:, None].repeat(1, count, 1, 1)
            blank = blank[:, None].repeat(1, count)
        return Attribution(
            logits=forward.logits.float(),
            targets=classes,
            maps=maps,
            zero_gradient=blank,
        )


def signed_eigencam(activation: Tensor) -> Tensor:
    """Return the projection on the first principal component, both signs.

    An activation that varies over places by no more than float32 rounding gives
    zeros, and one that is not finite gives NaN.

    Shape: (N, C, h, w) -> (N, h, w) float64.
    """
    features = activation.double().flatten(2)
    energy = features.square().sum(dim=1)
    finite = torch.isfinite(energy).all(dim=1)
    # The decomposition refuses a whole batch for one NaN in it.
    features = torch.where(finite[:, None, None], features, 0.0)
    centred = features - features.mean(dim=2, keepdim=True)
    projection = _first_component(centred)
    agreement = (projection * energy).sum(dim=1, keepdim=True)
    projection = torch.where(agreement < 0, -projection, projection)
    rounding = torch.finfo(torch.float32).eps ** 2
    varies = centred.square().sum(dim=(1, 2)) > rounding * energy.sum(dim=1)
    projection = torch.where(varies[:, None], projection, 0.0)
    projection = torch.where(finite[:, None], projection, torch.nan)
    return projection.view(len(activation), *activation.shape[2:])


def _first_component(centred: Tensor) -> Tensor:
    """Return X v, the first left singular vector times its value.

    Shape: (N, C, P) float64 -> (N, P).
    """
    channels, places = centred.shape[1:]
    if places <= channels:
        values, vectors = torch.linalg.eigh(centred.transpose(1, 2) @ centred)
        length: Tensor = values[..., -1:].clamp(min=0).sqrt()
        shape: Tensor = vectors[..., -1]
        return length * shape
    _, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2))
    direction: Tensor = vectors[..., -1:]
    return (direction * centred).sum(dim=1)

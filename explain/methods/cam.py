# SPDX-License-Identifier: Apache-2.0
"""Class activation mapping: the closed form of pooling and a linear head.

    y_c = sum_k w_ck mean_ij A_k[i, j] + b_c
    map = ReLU(sum_k w_ck A_k)

Holds only where the tapped layer is averaged over places and a linear layer makes
the scores of that. The head is found by trying: the linear layer for which the
equation gives the scores that the model gave is the head, and where there is none
the method refuses to draw.

Source: Zhou et al. 2016, "Learning Deep Features for Discriminative Localization",
equations 1 and 2.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.errors import UnsupportedModelError
from explain.frozen import frozen
from explain.methods.method import Attribution, chosen_targets
from explain.methods.split_forward import split_forward

#: Largest relative difference between the model's scores and the closed form.
_TOLERANCE = 1e-4
_HALF_TOLERANCE = 3e-2


class Cam:
    """Class activation mapping of a model that ends in pooling and a linear layer."""

    name = "cam"

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
        """Return the class activation map of each item's target.

        Waits for the device once a batch, to check the closed form on it.
        ``zero_gradient`` marks targets whose weights are all zero.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the layer yields no map.
            UnsupportedModelError: the scores are not a linear layer of the tapped
                layer's mean.
        """
        with frozen(self._model):
            forward = split_forward(self._model, self._layer, inputs, graph=False)
        classes = chosen_targets(forward.logits, targets)
        with torch.no_grad():
            activation = forward.activation.float()
            weights = self._head_weights(forward.logits, activation)[classes]
            return Attribution(
                logits=forward.logits.float(),
                targets=classes,
                maps=signed_cam(activation, weights).relu_(),
                zero_gradient=(weights == 0).all(dim=-1),
            )

    def _head_weights(self, logits: Tensor, activation: Tensor) -> Tensor:
        """Return the weights (K, C) of the layer that the closed form holds for."""
        half = logits.dtype in {torch.float16, torch.bfloat16}
        tolerance = _HALF_TOLERANCE if half else _TOLERANCE
        means = activation.mean(dim=(2, 3))
        shape = (logits.shape[1], activation.shape[1])
        for weights, bias in _linear_layers(self._model, shape):
            scores = means @ weights.T + bias
            scale = logits.float().abs().amax(dim=1, keepdim=True)
            error = (scores - logits.float()).abs()
            # Asked this way round, items that are not finite do not count against.
            if not bool((error > tolerance * scale).any()):
                return weights
        raise UnsupportedModelError(
            f"The class scores are not a linear layer of the mean of layer"
            f" {self._layer.name!r}, so CAM does not hold; name the layer just before"
            f" the pooling, or use 'gradcam'."
        )


def signed_cam(activation: Tensor, weights: Tensor) -> Tensor:
    """Return sum_k w_k A_k, evidence against the class included.

    Shape: activation (N, C, h, w), weights (N, C) or (N, T, C) -> (N, h, w) or
    (N, T, h, w).
    """
    if weights.ndim == 2:
        return (weights[:, :, None, None] * activation).sum(dim=1)
    # One target at a time, so that each has the bits it has when asked alone.
    columns = [signed_cam(activation, column) for column in weights.unbind(dim=1)]
    return torch.stack(columns, dim=1)


def _linear_layers(
    model: nn.Module, shape: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weights (K, C) and bias (K,) of the layers of that shape, last first.

    A 1 x 1 convolution before the pooling is the same function as a linear layer
    after it.
    """
    for module in reversed(list(model.modules())):
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        weights = module.weight.detach()
        pointwise = weights.ndim == 2 or weights.shape[2:] == (1, 1)
        if pointwise and weights.shape[:2] == shape:
            bias = (
                weights.new_zeros(len(weights)) if module.bias is None else module.bias
            )
            yield weights.reshape(shape).float(), bias.detach().float()

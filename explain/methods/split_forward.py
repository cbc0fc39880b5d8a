# SPDX-License-Identifier: Apache-2.0
"""A forward pass whose graph begins at one layer.

The trunk before the tapped layer runs without a graph, since nothing there needs
a gradient. A hook cuts the tapped output from it and makes it the root of a new
graph, so that the gradient of a class score costs the head alone, and memory
holds the activations of the head alone.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.errors import (
    InvalidInputError,
    UnsupportedLayerError,
    UnsupportedModelError,
    ZeroGradientLayerError,
)


@dataclass(frozen=True, slots=True)
class SplitForward:
    """The logits of one batch and the tapped activation that they grow from."""

    logits: Tensor
    activation: Tensor
    layer_name: str

    def gradient(self, targets: Tensor) -> Tensor:
        """Return d logit[target] / d activation of each item.

        Items do not influence each other in eval mode, so one backward pass of
        the sum serves the whole batch. Can be taken once.

        Raises:
            ZeroGradientLayerError: no class score depends on the layer.
        """
        gradient = None
        if self.logits.requires_grad:
            with torch.inference_mode(mode=False), torch.enable_grad():
                # The clone is for targets that were born under inference mode.
                score = self.logits.gather(1, targets[:, None].clone()).sum()
                (gradient,) = torch.autograd.grad(
                    score, self.activation, allow_unused=True
                )
        if gradient is None:
            raise ZeroGradientLayerError(
                f"The class scores do not depend on layer {self.layer_name!r}"
                f" (or the model cuts gradients off behind it); name another layer."
            )
        return gradient


def split_forward(model: nn.Module, layer: TappedLayer, inputs: Tensor) -> SplitForward:
    """Return the logits with a graph that begins at the layer.

    The model must be held by ``frozen``. The hook is gone afterwards on every path.

    Raises:
        InvalidInputError: the inputs are not a batch of images.
        UnsupportedLayerError: the layer yields no map, or ran unexpectedly often.
        UnsupportedModelError: the model does not return (N, K) logits.
    """
    if inputs.ndim != 4 or len(inputs) == 0:
        raise InvalidInputError(
            f"Expected a batch of images (N, C, H, W), got {tuple(inputs.shape)}."
        )
    tap = _Tap(layer)
    with torch.inference_mode(mode=False), torch.enable_grad():
        # Tensors born under inference mode cannot take part in any graph.
        inputs = inputs.clone() if inputs.is_inference() else inputs.detach()
        handle = layer.module.register_forward_hook(tap)
        try:
            logits = model(inputs)
        finally:
            handle.remove()
    activation = tap.result()
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(inputs):
        raise UnsupportedModelError(
            f"Expected class logits (N, K) from the model, got"
            f" {tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)};"
            f" wrap it in a module that returns one score a class."
        )
    return SplitForward(logits, activation, layer.name)


class _Tap:
    """The forward hook that cuts the graph at the layer's last call."""

    def __init__(self, layer: TappedLayer) -> None:
        self.layer = layer
        self.seen = 0
        self.root: Tensor | None = None
        self.version = 0

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        self.seen += 1
        if self.seen != self.layer.calls:
            return None
        if not isinstance(output, Tensor) or output.ndim != 4:
            given = tuple(output.shape) if isinstance(output, Tensor) else type(output)
            raise UnsupportedLayerError(
                f"Layer {self.layer.name!r} gives {given}; expected a map (N, C, h, w)."
            )
        self.root = output.detach().requires_grad_()
        self.version = self.root._version  # noqa: SLF001 - torch has no public name
        # What comes next may work in place (ResNet's ReLU): it gets a copy, and
        # the activation stays what the layer gave.
        return self.root.clone()

    def result(self) -> Tensor:
        """Return the tapped activation, refusing one that cannot be trusted."""
        if self.root is None or self.seen != self.layer.calls:
            raise UnsupportedLayerError(
                f"Layer {self.layer.name!r} ran {self.seen} times in this forward"
                f" pass, expected {self.layer.calls}; name a layer that always runs."
            )
        if self.root._version != self.version:  # noqa: SLF001 - as above
            raise UnsupportedLayerError(
                f"The output of layer {self.layer.name!r} is overwritten in place by"
                f" another branch; name a layer before or after it."
            )
        return self.root

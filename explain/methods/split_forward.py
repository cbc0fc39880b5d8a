# SPDX-License-Identifier: Apache-2.0
"""A forward pass whose graph begins at one layer.

The trunk before the tapped layer runs without a graph, since nothing there needs
a gradient. A hook cuts the tapped output from it and makes it the root of a new
graph, so that the gradient of a class score costs the head alone, and memory
holds the activations of the head alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from explain.architectures.tapped import TappedLayer
from explain.errors import (
    InvalidInputError,
    UnsupportedLayerError,
    UnsupportedModelError,
    ZeroGradientLayerError,
)
from explain.methods.method import Attribution

#: From activation and gradient, (N, C, h, w) float32 each, to maps (N, h, w).
MapRule = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class SplitForward:
    """The logits of one batch and the tapped output that they grow from."""

    logits: Tensor
    root: Tensor
    layer: TappedLayer

    @property
    def activation(self) -> Tensor:
        """The tapped feature map, (N, C, h, w), without a graph."""
        return self.layer.layout.to_map(self.root.detach())

    def gradient(self, classes: Tensor, *, last: bool = True) -> Tensor:
        """Return d logit[class] / d activation of each item.

        Items do not influence each other in eval mode, so one backward pass of
        the sum serves the whole batch.

        Args:
            classes: (N,) int64.
            last: Whether the graph may be freed; False when more will be asked.

        Shape: (N, C, h, w) in the model's type.

        Raises:
            ZeroGradientLayerError: no class score depends on the layer.
        """
        gradient = None
        if self.logits.requires_grad:
            with torch.inference_mode(mode=False), torch.enable_grad():
                # The clone is for targets that were born under inference mode.
                start, seed = _start_of_backward(self.logits, classes.clone())
                (gradient,) = torch.autograd.grad(
                    start, self.root, seed, allow_unused=True, retain_graph=not last
                )
        if gradient is None:
            raise ZeroGradientLayerError(
                f"The class scores do not depend on layer {self.layer.name!r}"
                f" (or the model cuts gradients off behind it); name another layer."
            )
        return self.layer.layout.to_map(gradient)

    def attribution(self, classes: Tensor, rule: MapRule) -> Attribution:
        """Return the maps that a rule makes of activation and gradient.

        The rule gets both in float32 whatever the model's type, once a target.

        Shape: classes (N,) or (N, T).

        Raises:
            ZeroGradientLayerError: no class score depends on the layer.
        """
        activation = self.activation.float()
        columns = [classes] if classes.ndim == 1 else list(classes.unbind(dim=1))
        maps: list[Tensor] = []
        blank: list[Tensor] = []
        for number, column in enumerate(columns, start=1):
            gradient = self.gradient(column, last=number == len(columns))
            with torch.no_grad():
                maps.append(rule(activation, gradient.float()))
                blank.append(gradient.abs().amax(dim=(1, 2, 3)) == 0)
        single = classes.ndim == 1
        return Attribution(
            logits=self.logits.detach().float(),
            targets=classes,
            maps=maps[0] if single else torch.stack(maps, dim=1),
            zero_gradient=blank[0] if single else torch.stack(blank, dim=1),
        )


def split_forward(
    model: nn.Module, layer: TappedLayer, inputs: Tensor, *, graph: bool = True
) -> SplitForward:
    """Return the logits with a graph that begins at the layer.

    The model must be held by ``frozen``. The hook is gone afterwards on every path.
    Methods that never differentiate pass ``graph=False`` and pay for no graph.

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
    with torch.inference_mode(mode=False), torch.set_grad_enabled(graph):
        # Tensors born under inference mode cannot take part in any graph.
        inputs = inputs.clone() if inputs.is_inference() else inputs.detach()
        handle = layer.module.register_forward_hook(tap)
        try:
            logits = model(inputs)
        finally:
            handle.remove()
    root = tap.result()
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(inputs):
        raise UnsupportedModelError(
            f"Expected class logits (N, K) from the model, got"
            f" {tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)};"
            f" wrap it in a module that returns one score a class."
        )
    return SplitForward(logits, root, layer)


def _start_of_backward(
    logits: Tensor, classes: Tensor
) -> tuple[Tensor | GradientEdge, Tensor]:
    """Return where the backward pass starts, and the gradient there.

    Behind a linear layer the gradient of a class score is that class' row of the
    weights. Picking the rows spares a product with one-hot vectors, which reads the
    whole matrix: a third of the head's cost in networks with a wide classifier.
    """
    node = logits.grad_fn
    # Autograd names what it saved after the operation's own arguments; anything
    # unexpected here takes the general way below, which is as right.
    weights = getattr(node, "_saved_mat2", None)
    if (
        node is not None
        and node.name() == "AddmmBackward0"
        and isinstance(weights, Tensor)
        and getattr(node, "_saved_alpha", None) == 1
        and weights.shape[1] == logits.shape[1]
    ):
        before, output = node.next_functions[1]
        if before is not None:
            # The product would carry another class' NaN into the gradient; so do rows:
            # what is added is 0, or NaN where a logit is infinite or NaN.
            values = logits.detach()
            spoilt = (values - values).sum(dim=1, keepdim=True)
            return GradientEdge(before, output), weights.t()[classes] + spoilt
    scores = logits.gather(1, classes[:, None])
    return scores, torch.ones_like(scores)


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
        if not isinstance(output, Tensor) or not self.layer.layout.fits(output):
            given = tuple(output.shape) if isinstance(output, Tensor) else type(output)
            raise UnsupportedLayerError(
                f"Layer {self.layer.name!r} gives {given}; expected"
                f" {self.layer.layout.in_words()}."
            )
        height, width = self.layer.layout.to_map(output).shape[2:]
        if height * width < 2:
            raise UnsupportedLayerError(
                f"Layer {self.layer.name!r} gives a map of {height} x {width} places,"
                f" which cannot be explained; name an earlier layer, or pass larger"
                f" images."
            )
        self.root = output.detach().requires_grad_(torch.is_grad_enabled())
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

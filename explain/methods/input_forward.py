# SPDX-License-Identifier: Apache-2.0
"""Forward passes of whole inputs: with a graph that begins there, or with none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError, UnsupportedModelError
from explain.methods.method import Attribution, chosen_targets

#: From a gradient (N, C, H, W) float32 to maps (N, H, W).
GradientRule = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class InputForward:
    """The logits of one batch and the input that they grow from."""

    logits: Tensor
    root: Tensor

    def gradient(self, classes: Tensor, *, last: bool = True) -> Tensor:
        """Return d logit[class] / d input of each item.

        Items do not influence each other in eval mode, so one backward pass of
        the sum serves the whole batch.

        Args:
            classes: (N,) int64.
            last: Whether the graph may be freed; False when more will be asked.

        Shape: (N, C, H, W) float32, or float64 of a float64 model.

        Raises:
            UnsupportedModelError: no class score depends on the input.
        """
        gradient = None
        if self.logits.requires_grad:
            with torch.inference_mode(mode=False), torch.enable_grad():
                # The clone is for targets that were born under inference mode.
                score = self.logits.gather(1, classes[:, None].clone()).sum()
                (gradient,) = torch.autograd.grad(
                    score, self.root, allow_unused=True, retain_graph=not last
                )
        if gradient is None:
            raise UnsupportedModelError(
                "The class scores do not depend on the input, or the model cuts"
                " gradients off; use a method that only asks the model, like occlusion."
            )
        return gradient.to(working_dtype(gradient))

    def attribution(self, classes: Tensor, rule: GradientRule) -> Attribution:
        """Return the maps that a rule makes of the gradient, once a target.

        Where a target's logit is not finite its map is NaN, because a gradient can
        look healthy at an input that the network cannot judge.

        Shape: classes (N,) or (N, T).

        Raises:
            UnsupportedModelError: no class score depends on the input.
        """
        columns = as_columns(classes).unbind(dim=1)
        maps: list[Tensor] = []
        blank: list[Tensor] = []
        for number, column in enumerate(columns, start=1):
            gradient = self.gradient(column, last=number == len(columns))
            with torch.no_grad():
                maps.append(rule(gradient).float())
                blank.append((gradient == 0).all(dim=3).all(dim=2).all(dim=1))
        logits = self.logits.detach().float()
        stacked = spoiled(torch.stack(maps, dim=1), logits, classes)
        return Attribution(
            logits=logits,
            targets=classes,
            maps=like_targets(stacked, classes),
            zero_gradient=like_targets(torch.stack(blank, dim=1), classes),
        )


def input_forward(model: nn.Module, inputs: Tensor) -> InputForward:
    """Return the logits with a graph that begins at the input.

    The model must be held by ``frozen``.

    Raises:
        InvalidInputError: the inputs are not a batch of images.
        UnsupportedModelError: the model does not return (N, K) logits.
    """
    require_images(inputs)
    with torch.inference_mode(mode=False), torch.enable_grad():
        # Tensors born under inference mode cannot take part in any graph.
        inputs = inputs.clone() if inputs.is_inference() else inputs.detach()
        root = inputs.detach().requires_grad_()
        # A network that works in place on its input gets a copy.
        logits = require_logits(model(root.clone()), len(inputs))
    return InputForward(logits, root)


def plain_forward(
    model: nn.Module, inputs: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return logits without a graph, in the model's type, and the target classes.

    The model must be held by ``frozen``.

    Shape: (N, K), and (N,) or (N, T) int64.

    Raises:
        InvalidInputError: the inputs are not a batch of images.
        InvalidTargetError: a target class the model does not have.
        UnsupportedModelError: the model does not return (N, K) logits.
    """
    require_images(inputs)
    with torch.no_grad():
        # A network that works in place on its input gets a copy.
        logits = require_logits(model(inputs.detach().clone()), len(inputs))
        return logits, chosen_targets(logits, targets)


def require_images(inputs: Tensor) -> None:
    """Refuse what is not a batch of images.

    Raises:
        InvalidInputError: not (N, C, H, W) of floating-point numbers.
    """
    if inputs.ndim != 4 or 0 in inputs.shape or not inputs.is_floating_point():
        raise InvalidInputError(
            f"Expected a batch of images (N, C, H, W) of floating-point numbers, got"
            f" {tuple(inputs.shape)} {inputs.dtype}."
        )


def require_logits(logits: Any, items: int) -> Tensor:
    """Return the logits, refusing what is not one row of scores an item.

    Raises:
        UnsupportedModelError: not (N, K).
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != items:
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)
        raise UnsupportedModelError(
            f"Expected class logits (N, K) from the model, got {given}; wrap it in a"
            f" module that returns one score a class."
        )
    return logits


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Return the type to reckon in: float32, or float64 of what is float64."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def as_columns(classes: Tensor) -> Tensor:
    """Return the targets with their axis T, also where there is one an item.

    Shape: (N,) or (N, T) -> (N, T).
    """
    return classes[:, None] if classes.ndim == 1 else classes


def like_targets(values: Tensor, classes: Tensor) -> Tensor:
    """Return values (N, T, ...) without their axis T where the targets have none."""
    return values[:, 0] if classes.ndim == 1 else values


def spoiled(maps: Tensor, logits: Tensor, classes: Tensor) -> Tensor:
    """Return the maps, NaN throughout where the target's logit is not finite.

    Shape: maps (N, T, h, w), logits (N, K), classes (N,) or (N, T) -> (N, T, h, w).
    """
    sound = torch.isfinite(logits.gather(1, as_columns(classes)))
    return torch.where(sound[:, :, None, None], maps, torch.nan)

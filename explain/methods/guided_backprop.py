# SPDX-License-Identifier: Apache-2.0
"""Guided backpropagation: only positive evidence passes back through each ReLU.

    backward of each ReLU:  R_in = [x > 0] [R_out > 0] R_out
    map = max over channels of |R at the input|

A clipped ReLU (ReLU6) lets pass what lies below its ceiling, by the same rule.

Source: Springenberg et al. 2015, "Striving for Simplicity: The All Convolutional
Net", section 3.4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from explain.errors import UnsupportedModelError
from explain.frozen import frozen
from explain.methods.input_forward import InputForward, input_forward
from explain.methods.input_gradient import InputGradient
from explain.methods.method import chosen_targets


class GuidedBackprop(InputGradient):
    """The input gradient of one model with every ReLU's backward pass guided.

    Raises ``UnsupportedModelError`` where the model has no ReLU.
    """

    name = "guided_backprop"

    def forward(self, inputs: Tensor) -> InputForward:
        """Return the forward pass whose backward pass is guided."""
        return guided_forward(self._model, inputs)


def guided_gradient(model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """Return the guided gradient of logit[class] with respect to the inputs.

    The model is given back as it was, on every path.

    Shape: inputs (N, C, H, W), classes (N,) int64 -> (N, C, H, W) float32.

    Raises:
        InvalidTargetError: a target class the model does not have.
        UnsupportedModelError: the model has no ReLU, or cuts gradients off.
    """
    with frozen(model):
        forward = guided_forward(model, inputs)
        return forward.gradient(chosen_targets(forward.logits, classes)).float()


def guided_forward(model: nn.Module, inputs: Tensor) -> InputForward:
    """Return a forward pass whose every ReLU passes positive gradients only.

    The logits are those of the plain forward pass, bit for bit. The model must be
    held by ``frozen``.

    Raises:
        UnsupportedModelError: no ReLU was called where it could be seen.
    """
    guide = _GuidedRelus()
    with guide:
        forward = input_forward(model, inputs)
    if not guide.calls:
        raise UnsupportedModelError(
            "Guided backpropagation is defined for ReLU alone and this model calls"
            " none (or is compiled, so that none can be seen); use input_gradient."
        )
    return forward


class _GuidedRelus(TorchFunctionMode):
    """While active, every ReLU called, as module or function, is a guided one.

    Nothing of the model is changed, so there is nothing to restore but the mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        ceiling = _ceiling(func, args, kwargs)
        if ceiling is None:
            return func(*args, **kwargs)
        self.calls += 1
        given: Tensor = args[0] if args else kwargs["input"]
        result = _GuidedRelu.apply(given, ceiling)
        if _in_place(func, args, kwargs):
            # Whoever holds the tensor must see the new values, in the graph too.
            return given.copy_(result)
        return result


class _GuidedRelu(torch.autograd.Function):
    """ReLU, or ReLU clipped at a ceiling, with the guided backward pass."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, ceiling: float) -> Tensor:
        """Return max(0, x), at most the ceiling."""
        clipped = ceiling != torch.inf
        result = functional.hardtanh(given, 0.0, ceiling) if clipped else given.relu()
        shut = result <= 0
        ctx.save_for_backward(shut | (result >= ceiling) if clipped else shut)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient where it and the activation are positive."""
        (shut,) = ctx.saved_tensors
        return gradients[0].clamp(min=0).masked_fill(shut, 0.0), None


_RELUS = {functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_ALWAYS_IN_PLACE = {torch.relu_, Tensor.relu_, functional.hardtanh_}
_CLIPPED = {functional.hardtanh, functional.hardtanh_}


def _ceiling(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> float | None:
    """Return where the called ReLU is clipped; None where it is no ReLU."""
    if func in _RELUS:
        return torch.inf
    if func is functional.relu6:
        return 6.0
    if func in _CLIPPED:
        floor = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        ceiling = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
        return float(ceiling) if floor == 0 and ceiling > 0 else None
    return None


def _in_place(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Say whether the call overwrites its input."""
    position = 3 if func in _CLIPPED else 1
    given = args[position] if len(args) > position else kwargs.get("inplace", False)
    return func in _ALWAYS_IN_PLACE or bool(given)

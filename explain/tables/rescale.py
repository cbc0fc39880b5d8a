# SPDX-License-Identifier: Apache-2.0
"""The rescale rule: multipliers of elementwise activations in place of gradients.

    m = (f(z) - f(z0)) / (z - z0),  and f'(z) where the two are as good as equal

with z what an activation is given for the input and z0 what for the reference. Linear
parts keep their gradients, so that one backward pass carries multipliers from the
output to the input (the chain rule of the source, equation 3).

Source: Shrikumar et al. 2017, "Learning Important Features Through Propagating
Activation Differences", sections 3.2 and 3.5.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from explain.errors import UnsupportedModelError

#: What acts on each number alone.
_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.LogSigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Hardswish,
)
#: What is linear, up to a constant, once the network is in eval mode.
_LINEAR = (
    nn.Linear,
    nn.BatchNorm1d,
    nn.Dropout,
    nn.AlphaDropout,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
)
#: Below this difference the quotient is noise, and the gradient its limit.
_CLOSE = 1e-6


def require_rescalable(network: nn.Module) -> None:
    """Nothing happens if the rule covers every part of the network.

    Raises:
        UnsupportedModelError: a part is neither linear nor elementwise.
    """
    for name, part in network.named_modules():
        leaf = not any(True for _ in part.children())
        if leaf and not isinstance(part, (*_ELEMENTWISE, *_LINEAR)):
            raise UnsupportedModelError(
                f"DeepLIFT has no rule for {type(part).__name__} ({name or 'the model'}"
                "); use integrated_gradients or kernelshap."
            )


@contextmanager
def rescaled(network: nn.Module) -> Iterator[None]:
    """Within, activations pass multipliers back, rows 2i and 2i + 1 being a pair.

    The even row of a pair is the input, the odd one its reference. On leaving, by
    whatever path, the network is as it was.
    """
    handles: list[RemovableHandle] = []
    in_place: list[Any] = []
    try:
        for part in network.modules():
            if not isinstance(part, _ELEMENTWISE):
                continue
            handles.append(part.register_forward_hook(_with_multipliers))
            if getattr(part, "inplace", False):
                # It would overwrite what the rule starts from.
                in_place.append(part)
                part.inplace = False
        yield
    finally:
        for handle in handles:
            handle.remove()
        for part in in_place:
            part.inplace = True


def _with_multipliers(
    part: nn.Module, given: tuple[Any, ...], output: Tensor
) -> Tensor:
    """Return the activation's output, which passes multipliers back."""
    arguments, outputs = given[0].detach(), output.detach()
    step = arguments[0::2] - arguments[1::2]
    close = step.abs() < _CLOSE
    multipliers = (outputs[0::2] - outputs[1::2]) / torch.where(close, 1.0, step)
    if bool(close.any()):
        multipliers = torch.where(close, _slope(part, arguments[0::2]), multipliers)
    passed: Tensor = _Multiplied.apply(
        given[0], outputs, multipliers.repeat_interleave(2, dim=0)
    )
    return passed


def _slope(part: nn.Module, arguments: Tensor) -> Tensor:
    """Return the activation's derivative, of the arguments' shape."""
    with torch.enable_grad():
        leaf = arguments.clone().requires_grad_()
        # Not through the hooks again.
        (slope,) = torch.autograd.grad(part.forward(leaf).sum(), leaf)
    return slope


class _Multiplied(torch.autograd.Function):
    """Values as they were computed, whose gradient is a given multiplier."""

    @staticmethod
    def forward(
        ctx: Any,
        given: Tensor,  # noqa: ARG004 - the graph hangs on it
        outputs: Tensor,
        multipliers: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(multipliers)
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (multipliers,) = ctx.saved_tensors
        return gradients[0] * multipliers, None, None

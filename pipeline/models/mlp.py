# SPDX-License-Identifier: Apache-2.0
"""A multilayer perceptron on rows of numbers: linear layers with activations between.

The state dict is that of a `torch.nn.Sequential` of `Linear` and activation in turn
(`0.weight`, `0.bias`, `2.weight`, ...), so that a network trained as one loads here.
"""

from collections import OrderedDict

from torch import nn

from pipeline.errors import ModelError
from pipeline.models.architecture import Architecture

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
_MOST = 65_536


def _build(
    *, inputs: int, classes: int, hidden: str | int = "", activation: str = "relu"
) -> nn.Module:
    """Return the network.

    Args:
        inputs: Numbers of a row, as the encoding makes them.
        classes: How many classes it tells apart.
        hidden: Widths of the hidden layers, such as "64,32"; "" for none.
        activation: Between the layers: relu, gelu, silu or tanh.

    Raises:
        ModelError: a width is no whole number, or the activation is not known.
    """
    if activation not in _ACTIVATIONS:
        raise ModelError(
            f"model.arguments.activation: expected one of {', '.join(_ACTIVATIONS)},"
            f" got '{activation}'."
        )
    between = [part.strip() for part in str(hidden).split(",")] if hidden else []
    widths = [_width("inputs", inputs)]
    widths += [_width("hidden", each) for each in between]
    widths.append(_width("classes", classes))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for place in range(len(widths) - 1):
        if place > 0:
            layers[str(2 * place - 1)] = _ACTIVATIONS[activation]()
        layers[str(2 * place)] = nn.Linear(widths[place], widths[place + 1])
    return nn.Sequential(layers)


def _width(name: str, given: str | int) -> int:
    text = str(given)
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise ModelError(
            f"model.arguments.{name}: expected whole numbers from 1 to {_MOST:,} (as in"
            f' hidden: "64,32"), got {given!r}.'
        )
    return int(text)


architecture = Architecture(build=_build)

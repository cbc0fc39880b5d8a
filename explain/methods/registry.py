# SPDX-License-Identifier: Apache-2.0
"""Methods by name."""

from collections.abc import Callable

from torch import nn

from explain.architectures.tapped import TappedLayer
from explain.errors import UnknownNameError
from explain.methods.gradcam import GradCam
from explain.methods.method import Method

_BUILDERS: dict[str, Callable[[nn.Module, TappedLayer], Method]] = {
    GradCam.name: GradCam,
}


def create_method(name: str, model: nn.Module, layer: TappedLayer) -> Method:
    """Return the method of that name for the model, tapping the layer.

    Raises:
        UnknownNameError: no such method; says which there are.
    """
    if name not in _BUILDERS:
        raise UnknownNameError("method", name, _BUILDERS)
    return _BUILDERS[name](model, layer)

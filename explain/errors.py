# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong in here, named by the reaction it needs.

ExplainError
├─ UnsupportedModelError   another model (or a wrapper) is needed
├─ LayerError              another layer is needed
│  ├─ UnknownLayerError      the name is not in the model
│  ├─ UnsupportedLayerError  the layer exists but yields no usable feature map
│  └─ ZeroGradientLayerError the class scores do not depend on the layer
├─ InvalidTargetError      the target classes do not fit the model or the batch
├─ InvalidInputError       a tensor has the wrong shape or kind
├─ MissingContextError     something beside the map must be known as well
├─ UnknownNameError        no method, policy or metric of that name
└─ InvalidParameterError   a parameter is outside its range
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ExplainError(Exception):
    """Something asked of the explanation engine cannot be done."""


class UnsupportedModelError(ExplainError):
    """The model is not one that this method can explain."""


class LayerError(ExplainError):
    """The layer cannot be tapped."""


class UnknownLayerError(LayerError):
    """The model has no layer of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = [layer for layer in known if layer]
        outermost = [layer for layer in known if "." not in layer]
        near = nearest(name, known)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        super().__init__(
            f"The model has no layer {name!r}.{hint}"
            f" Its outermost layers are {', '.join(outermost)};"
            f" name one by its dotted path, or use 'auto'."
        )


class UnsupportedLayerError(LayerError):
    """The layer exists but yields no feature map that can be explained."""


class ZeroGradientLayerError(LayerError):
    """The class scores do not depend on the layer, so its map would be blank."""


class InvalidTargetError(ExplainError):
    """The target classes do not fit the model's outputs or the batch."""


class InvalidInputError(ExplainError):
    """A tensor has a shape or a kind that the function does not take."""


class MissingContextError(ExplainError):
    """A policy or a method needs to know more of the items than it was told."""


class UnknownNameError(ExplainError):
    """Nothing is registered under that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = nearest(name, known)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(
            f"There is no {kind} named {name!r}.{hint} Known: {', '.join(known)}."
        )


class InvalidParameterError(ExplainError):
    """A parameter of a method, policy or metric is outside its range."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that look like the given one."""
    return get_close_matches(name, list(known), n=3, cutoff=0.6)

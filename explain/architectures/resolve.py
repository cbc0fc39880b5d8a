# SPDX-License-Identifier: Apache-2.0
"""The layer whose feature map is explained: named by the user, or found.

The automatic rule needs no table of architectures. It takes the last layer that
yields a map with spatial extent before the pooling, as its outermost container,
and on which the class scores depend: ``layer4`` of a ResNet, ``features`` of a
DenseNet, the rectified last convolution of a VGG, the last norm of a Swin, and,
because a class token reads the places through attention only, the first norm of
the last block of a ViT.
"""

import torch
from torch import Tensor, nn

from explain.architectures.candidates import Candidates
from explain.architectures.layouts import ChannelsFirst, Layout, Tokens
from explain.architectures.tapped import TappedLayer
from explain.architectures.trace import LayerRecord, example_for
from explain.errors import (
    UnknownLayerError,
    UnsupportedLayerError,
    UnsupportedModelError,
    ZeroGradientLayerError,
)

AUTO = "auto"

#: Most working layers that a message names.
_NAMED = 5

#: Number of attention heads, as torch, torchvision, timm and transformers call it.
_HEADS = ("num_heads", "n_heads", "num_attention_heads")


def resolve_layer(
    model: nn.Module, name: str = AUTO, example: Tensor | None = None
) -> TappedLayer:
    """Return the layer to tap, checked by one forward and one backward pass.

    Without an example, a grey 224 x 224 image in the channels of the first
    convolution stands in. Pass an example of the size that will be explained
    where it differs: small images may leave a late layer without extent, and a
    transformer's grid of tokens is that of the example.

    The backward pass, of the example and seeded noise, finds layers on which no class
    score depends. Models on the meta device have no scores, and are not checked.

    Raises:
        UnknownLayerError: no layer has that name; says which have.
        UnsupportedLayerError: the layer yields no map with spatial extent.
        ZeroGradientLayerError: no class score depends on the layer's map.
        UnsupportedModelError: not an image classifier that yields maps.
    """
    known = dict(model.named_modules(remove_duplicate=False))
    if name != AUTO and (name not in known or not name):
        raise UnknownLayerError(name, known)
    candidates = _candidates(model, example)
    if name == AUTO:
        return _automatic(model, candidates)
    return _named(name, known[name], candidates)


def working_layers(
    model: nn.Module, example: Tensor | None = None, target: int | None = None
) -> list[TappedLayer]:
    """Return the layers that can be tapped for the target, the best first.

    The first is what ``auto`` takes; each later one finishes earlier. Layers inside
    one of these are left out, though they may work too. None as the target asks for
    any class; the check and the example are those of ``resolve_layer``.

    Raises:
        InvalidTargetError: the target is out of range.
        UnsupportedModelError: not an image classifier.
    """
    candidates = _candidates(model, example)
    return [
        _tapped(record, candidates, record.name, "the class scores depend on its map")
        for record in candidates.ranked(candidates.live(target))
    ]


def _candidates(model: nn.Module, example: Tensor | None) -> Candidates:
    """Return the traced layers of a model that is an image classifier."""
    found = Candidates(model, example_for(model) if example is None else example)
    require_classifier(found.trace.output)
    return found


def _automatic(model: nn.Module, candidates: Candidates) -> TappedLayer:
    """Return the outermost layer that last yields a live map before the pooling."""
    live = candidates.live()
    latest = next(candidates.ranked(None), None)
    if latest is None:
        raise _no_map(model)
    if live is None and isinstance(candidates.layout(latest), Tokens):
        raise UnsupportedModelError(
            "The layer of a transformer with tokens is found by a backward pass, which"
            " this model does not allow here; give it real weights (not the meta"
            " device), or name a layer."
        )
    record = next(candidates.ranked(live), None)
    if record is None and isinstance(candidates.layout(latest), ChannelsFirst):
        # A head of zeros: items will come out flagged, one by one.
        record = latest
    if record is None:
        raise ZeroGradientLayerError(
            "The class scores depend on the map of no layer of the model; are the"
            " weights of its head all zero, as before training?"
        )
    reason = "last feature map before the pooling"
    if record is not latest:
        reason = (
            f"last feature map that the class scores depend on (not on"
            f" {latest.name!r}, whose map has zero gradient)"
        )
    return _tapped(record, candidates, record.name, reason)


def _named(name: str, module: nn.Module, candidates: Candidates) -> TappedLayer:
    """Return the layer that the user named, refusing what cannot be explained."""
    layers = candidates.trace.layers.values()
    record = next((r for r in layers if r.module is module), None)
    if record is None:
        raise UnsupportedLayerError(
            f"Layer {name!r} does not run in the model's forward pass;"
            f" {_advice(candidates)}."
        )
    if candidates.layout(record) is None:
        raise UnsupportedLayerError(
            f"Layer {name!r} gives {_output_in_words(record)}; expected a map"
            f" (N, C, h, w) or (N, h, w, C) with h * w above 1, or tokens (N, L, C) on"
            f" the grid of the patches; {_advice(candidates)}."
        )
    live = candidates.live()
    if live is not None and record.name not in live:
        raise ZeroGradientLayerError(
            f"The class scores do not depend on layer {name!r}: the gradient of its map"
            f" is zero throughout; {_advice(candidates)}."
        )
    return _tapped(record, candidates, name, "named by the audit")


def _advice(candidates: Candidates) -> str:
    """Return the layers that would work, the best first, for a message."""
    working = [record.name for record in candidates.ranked(candidates.live())]
    if not working:
        return "no other layer of the model works either"
    return f"layers that work: {', '.join(working[:_NAMED])}"


def _output_in_words(record: LayerRecord) -> str:
    """Return what the layer gave, for a message."""
    if record.shape is None:
        return "no single tensor"
    alike = len(record.shape) == 4 and len({*record.shape[1:]}) == 1
    doubt = ", whose channels cannot be told from its places" if alike else ""
    return f"an output of shape {record.shape}{doubt}"


def _tapped(
    record: LayerRecord, candidates: Candidates, name: str, reason: str
) -> TappedLayer:
    """Return the record as a layer to tap, with repeated calls mentioned."""
    layout = candidates.layout(record) or ChannelsFirst()
    if record.calls > 1:
        reason = f"{reason}; runs {record.calls} times, the last is tapped"
    shape = _map_shape(record.shape, layout)
    return TappedLayer(name, record.module, reason, record.calls, shape, layout)


def _map_shape(shape: tuple[int, ...] | None, layout: Layout) -> tuple[int, ...] | None:
    """Return the shape (1, C, h, w) of the map that a layout views in an output."""
    if shape is None:
        return None
    return tuple(layout.to_map(torch.empty(shape, device="meta")).shape)


def _no_map(model: nn.Module) -> UnsupportedModelError:
    """Return the refusal of a model none of whose layers yields a map."""
    for name, module in model.named_modules():
        if any(isinstance(getattr(module, heads, None), int) for heads in _HEADS):
            return UnsupportedModelError(
                f"The model is a transformer ({name!r} has attention heads) whose"
                f" tokens lie on no grid of image patches; only image classifiers"
                f" are explained by maps."
            )
    return UnsupportedModelError(
        "No layer of the model yields a feature map with spatial extent above"
        " 1 x 1 on this example; pass larger images, or name a layer."
    )


def require_classifier(output: object) -> None:
    """Refuse detectors, segmenters and whatever does not give (N, K) logits."""
    if isinstance(output, Tensor) and output.ndim == 2:
        return
    given = (
        f"a tensor of shape {tuple(output.shape)}"
        if isinstance(output, Tensor)
        else f"an object of type {type(output).__name__}"
    )
    raise UnsupportedModelError(
        f"The model gives {given}; expected class logits (N, K). Detectors and"
        f" segmenters are not classifiers: wrap the model in a module that returns"
        f" one score a class."
    )

# SPDX-License-Identifier: Apache-2.0
"""The layer whose feature map is explained: named by the user, or found.

The automatic rule needs no table of architectures. It looks at one forward pass
and takes the last layer that yields a map with spatial extent before the
pooling, as its outermost container: ``layer4`` of a ResNet, ``features`` of a
DenseNet, ``Mixed_7c`` of an Inception, the rectified last convolution of a VGG.
"""

from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.architectures.trace import (
    LayerRecord,
    Trace,
    example_for,
    trace_layers,
)
from explain.errors import (
    UnknownLayerError,
    UnsupportedLayerError,
    UnsupportedModelError,
)

AUTO = "auto"

#: In eval mode these hand their input on, so their input's layer is the better name.
_TRANSPARENT: tuple[type[nn.Module], ...] = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)

#: Number of attention heads, as torch, torchvision, timm and transformers call it.
_HEADS = ("num_heads", "n_heads", "num_attention_heads")


def resolve_layer(
    model: nn.Module, name: str = AUTO, example: Tensor | None = None
) -> TappedLayer:
    """Return the layer to tap, checked by one forward pass.

    Without an example, a grey 224 x 224 image in the channels of the first
    convolution stands in. Pass an example of the size that will be explained
    where it differs: small images may leave a late layer without extent.

    Raises:
        UnknownLayerError: no layer has that name; says which have.
        UnsupportedLayerError: the layer yields no map with spatial extent.
        UnsupportedModelError: not a convolutional classifier.
    """
    known = dict(model.named_modules(remove_duplicate=False))
    if name != AUTO and (name not in known or not name):
        raise UnknownLayerError(name, known)
    _refuse_transformer(model)
    trace = trace_layers(model, example_for(model) if example is None else example)
    _refuse_non_classifier(trace)
    if name == AUTO:
        return _automatic(trace)
    return _named(name, known[name], trace)


def _automatic(trace: Trace) -> TappedLayer:
    """Return the outermost layer that last yields a map before the pooling."""
    record = _last_map(trace, "", skip_shrunk=True) or _last_map(
        trace, "", skip_shrunk=False
    )
    if record is None:
        raise UnsupportedModelError(
            "No layer of the model yields a feature map with spatial extent above"
            " 1 x 1 on this example; pass larger images, or name a layer."
        )
    return _tapped(record, record.name, "last feature map before the pooling")


def _named(name: str, module: nn.Module, trace: Trace) -> TappedLayer:
    """Return the layer that the user named, refusing what cannot be explained."""
    record = next((r for r in trace.layers.values() if r.module is module), None)
    if record is None:
        raise UnsupportedLayerError(
            f"Layer {name!r} does not run in the model's forward pass;"
            f" name one that does, or use 'auto'."
        )
    # These two work on the last axis; a subclass (ConvNeXt's) may permute first.
    channels_last = _has_extent(record) and type(module) in {nn.Linear, nn.LayerNorm}
    if channels_last or not _has_extent(record):
        layout = "channels-last output" if channels_last else "output"
        raise UnsupportedLayerError(
            f"Layer {name!r} gives {layout} of shape {record.shape}; expected a map"
            f" (N, C, h, w) with h * w above 1. Name an earlier layer, or use 'auto'."
        )
    return _tapped(record, name, "named by the audit")


def _tapped(record: LayerRecord, name: str, reason: str) -> TappedLayer:
    """Return the record as a layer to tap, with repeated calls mentioned."""
    if record.calls > 1:
        reason = f"{reason}; runs {record.calls} times, the last is tapped"
    return TappedLayer(name, record.module, reason, record.calls, record.shape)


def _last_map(trace: Trace, parent: str, *, skip_shrunk: bool) -> LayerRecord | None:
    """Return the last usable layer beneath the parent, outermost first.

    A stage that shrinks its map to 1 x 1 by convolution is skipped at first: what
    it holds are fragments of a block that a residual connection goes around.
    """
    for child in _children_by_completion(trace, parent):
        record = trace.layers.get(child)
        if record is not None and _is_candidate(record):
            return record
        shrunk = (
            record is not None
            and record.shape is not None
            and len(record.shape) == 4
            and not record.pooled
        )
        if shrunk and skip_shrunk:
            continue
        found = _last_map(trace, child, skip_shrunk=skip_shrunk)
        if found is not None:
            return found
    return None


def _children_by_completion(trace: Trace, parent: str) -> list[str]:
    """Return the names one level beneath the parent, the last finished first.

    A ModuleList never runs itself; it finishes with the last layer that it holds.
    """
    prefix = f"{parent}." if parent else ""
    finished: dict[str, int] = {}
    for name, record in trace.layers.items():
        if name.startswith(prefix):
            child = prefix + name[len(prefix) :].split(".", 1)[0]
            finished[child] = max(finished.get(child, -1), record.finished)
    return sorted(finished, key=finished.__getitem__, reverse=True)


def _is_candidate(record: LayerRecord) -> bool:
    """Say whether the automatic rule may take the layer."""
    return (
        _has_extent(record)
        and not record.pooled
        and not isinstance(record.module, _TRANSPARENT)
    )


def _has_extent(record: LayerRecord) -> bool:
    """Say whether the layer yields a four-dimensional map of more than one place."""
    shape = record.shape
    return shape is not None and len(shape) == 4 and shape[2] * shape[3] > 1


def _refuse_transformer(model: nn.Module) -> None:
    """Refuse models with attention heads: their maps need a token adapter."""
    for name, module in model.named_modules():
        if any(isinstance(getattr(module, heads, None), int) for heads in _HEADS):
            raise UnsupportedModelError(
                f"The model is a transformer ({name!r} has attention heads), and"
                f" Grad-CAM needs a convolutional feature map; use a convolutional"
                f" classifier, transformers are not explained by this version."
            )


def _refuse_non_classifier(trace: Trace) -> None:
    """Refuse detectors, segmenters and whatever does not give (N, K) logits."""
    output = trace.output
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

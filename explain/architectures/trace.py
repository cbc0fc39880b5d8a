# SPDX-License-Identifier: Apache-2.0
"""What each layer gave during one forward pass, in the order of completion."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import UnsupportedModelError
from explain.frozen import frozen

_POOLING: tuple[type[nn.Module], ...] = (
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AvgPool2d,
    nn.FractionalMaxPool2d,
    nn.LPPool2d,
    nn.MaxPool2d,
)


@dataclass(slots=True)
class LayerRecord:
    """What one layer did: how often it ran, when it last finished, its output.

    ``permutes`` says that it does no more than put its input's axes in another order.
    """

    name: str
    module: nn.Module
    calls: int = 0
    finished: int = -1
    shape: tuple[int, ...] | None = None
    pooled: bool = False
    permutes: bool = False


@dataclass(slots=True)
class Trace:
    """Every layer that ran, by dotted name, and what the model returned."""

    layers: dict[str, LayerRecord] = field(default_factory=dict)
    output: Any = None


def trace_layers(model: nn.Module, example: Tensor) -> Trace:
    """Return what each layer did on the first image of the example.

    Runs one forward pass in eval mode without gradients and leaves the model as
    it was.

    Raises:
        UnsupportedModelError: the model does not take such a tensor.
    """
    trace = Trace()
    pooled: list[Tensor] = []
    clock = iter(range(1 << 62))

    def watch(record: LayerRecord) -> Any:
        def finished(module: nn.Module, inputs: Any, output: Any) -> None:
            record.calls += 1
            record.finished = next(clock)
            trace.layers[record.name] = record
            record.shape = tuple(output.shape) if isinstance(output, Tensor) else None
            record.permutes = _permutes(module, inputs, record.shape)
            # A container that hands a pooling's very tensor on ends in pooling.
            record.pooled = isinstance(record.module, _POOLING) or any(
                output is seen for seen in pooled
            )
            if record.pooled and isinstance(output, Tensor):
                pooled.append(output)

        return finished

    hooks = []
    try:
        for name, module in model.named_modules():
            if name:
                record = LayerRecord(name, module)
                hooks.append(module.register_forward_hook(watch(record)))
        with frozen(model), torch.no_grad():
            trace.output = _run(model, example[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def example_for(model: nn.Module) -> Tensor:
    """Return a grey image of 224 x 224 in the model's channels, dtype and device.

    Raises:
        UnsupportedModelError: the model has no two-dimensional convolution.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            shape = (1, module.in_channels, 224, 224)
            return module.weight.new_zeros(shape)
    raise UnsupportedModelError(
        "The model has no two-dimensional convolution, so it yields no feature map;"
        " Grad-CAM explains image classifiers with convolutions."
    )


def _permutes(module: nn.Module, inputs: Any, shape: tuple[int, ...] | None) -> bool:
    """Say whether the layer, which has nothing inside, only reorders the axes."""
    if shape is None or len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        return False
    given = tuple(inputs[0].shape)
    bare = next(module.parameters(), None) is None
    bare = bare and next(module.children(), None) is None
    return bare and given != shape and sorted(given) == sorted(shape)


def _run(model: nn.Module, example: Tensor) -> Any:
    """Return the model's output, or say that it does not take an image batch."""
    try:
        return model(example)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise UnsupportedModelError(
            f"The model could not run on a batch of shape {tuple(example.shape)};"
            f" pass an example of the size that it takes"
            f" ({type(error).__name__} in its forward)."
        ) from error

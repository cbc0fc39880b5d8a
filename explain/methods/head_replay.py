# SPDX-License-Identifier: Apache-2.0
"""The part of a network after the tapped layer, run again without the part before.

PyTorch cannot enter a forward pass in its middle, and a hook cannot keep a layer
from computing. So the network runs as a whole, while the modules that are done
before the tapped layer hand out what they gave the first time, on one image, and
the tapped layer's output is replaced by many changed copies of it. What goes
around the layer (a residual connection) has one row and meets the many by
broadcasting. Where a network does not take that, it runs whole, on copies of the
image: which of the ways is right is found by trying.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer

#: From changed outputs of the tapped layer, (M, ...), to logits (M, K).
Head = Callable[[Tensor], Tensor]

#: How far a replayed head's logits may be from the network's, relative.
_TOLERANCE = 1e-3
_HALF_TOLERANCE = 5e-2


class Way(Enum):
    """How the head is run, in the order in which the ways are tried."""

    #: On one image, trunk replayed: class tokens are made for as many rows as it has.
    NARROW = "narrow"
    #: On copies of the image, trunk replayed: rows are counted at the input.
    WIDE = "wide"
    #: On copies of the image, everything computed: the layer's input is concatenated.
    WHOLE = "whole"


@contextmanager
def noted_trunk(model: nn.Module, layer: TappedLayer) -> Iterator[list[nn.Module]]:
    """Fill a list with the modules that a forward pass is done with at the layer.

    Run the forward pass inside; the list is complete afterwards. It holds outermost
    modules, the tapped layer among them.
    """
    before: set[nn.Module] = set()
    after: set[nn.Module] = set()
    calls = 0

    def finished(module: nn.Module, _inputs: Any, _output: Any) -> None:
        nonlocal calls
        (before if calls < layer.calls else after).add(module)
        calls += module is layer.module

    hooks = [module.register_forward_hook(finished) for module in model.modules()]
    trunk: list[nn.Module] = []
    try:
        yield trunk
    finally:
        for hook in hooks:
            hook.remove()
    trunk.extend(dict.fromkeys(_outermost(model, before - after)))


@contextmanager
def head_of(
    model: nn.Module,
    layer: TappedLayer,
    image: Tensor,
    trunk: list[nn.Module],
    way: Way,
) -> Iterator[Head]:
    """Yield the head for one image (1, C, H, W); its trunk runs once, here.

    The model must be held by ``frozen``, and is itself again on every path.
    """
    tape = _Tape()
    replayed = [] if way is Way.WHOLE else trunk
    found = [module.__dict__.get("forward") for module in replayed]
    try:
        for module in replayed:
            module.forward = tape.through(module, module.forward)
        if replayed:
            with torch.no_grad():
                model(image)
        tape.replaying = True

        def head(outputs: Tensor) -> Tensor:
            tape.rewind()
            rows = 1 if way is Way.NARROW else len(outputs)
            return _run(model, layer, image.expand(rows, -1, -1, -1), outputs)

        yield head
    finally:
        for module, forward in zip(replayed, found, strict=True):
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.__dict__["forward"] = forward


def way_of(
    model: nn.Module,
    layer: TappedLayer,
    image: Tensor,
    output: Tensor,
    logits: Tensor,
    trunk: list[nn.Module],
) -> Way:
    """Return the first way that gives the network's own logits.

    Shape: image (1, C, H, W), output (1, ...) of the layer, logits (1, K).
    """
    for way in (Way.NARROW, Way.WIDE):
        try:
            with head_of(model, layer, image, trunk, way) as head:
                given = head(torch.cat([output, output]))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            continue
        if _same(given, logits.expand(2, -1)):
            return way
    return Way.WHOLE


def _same(given: Tensor, expected: Tensor) -> bool:
    """Say whether logits agree as far as passes of different shape do."""
    if given.shape != expected.shape:
        return False
    half = expected.dtype in {torch.float16, torch.bfloat16}
    tolerance = _HALF_TOLERANCE if half else _TOLERANCE
    error, scale = (given.float() - expected.float()).abs(), expected.float().abs()
    # Asked this way round, an image that gives NaN does not decide.
    return not bool((error > tolerance * scale.amax()).any())


class _Tape:
    """What each module gave at each of its calls in one forward pass."""

    def __init__(self) -> None:
        self.replaying = False
        self._given: dict[nn.Module, list[Any]] = {}
        self._calls: dict[nn.Module, int] = {}

    def rewind(self) -> None:
        """Begin a forward pass."""
        self._calls.clear()

    def through(
        self, module: nn.Module, forward: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return a forward that records at first and then replays."""

        def taped(*arguments: Any, **options: Any) -> Any:
            if not self.replaying:
                output = forward(*arguments, **options)
                self._given.setdefault(module, []).append(_copy(output))
                return output
            number = self._calls.get(module, 0)
            self._calls[module] = number + 1
            return _copy(self._given[module][number])

        return taped


def _run(
    model: nn.Module, layer: TappedLayer, images: Tensor, outputs: Tensor
) -> Tensor:
    """Return the logits with the layer's last output replaced."""
    calls = 0

    def replace(_module: nn.Module, _inputs: Any, _output: Any) -> Tensor | None:
        nonlocal calls
        calls += 1
        return outputs.clone() if calls == layer.calls else None

    hook = layer.module.register_forward_hook(replace)
    try:
        with torch.no_grad():
            logits: Tensor = model(images)
    finally:
        hook.remove()
    return logits


def _outermost(module: nn.Module, wanted: set[nn.Module]) -> Iterator[nn.Module]:
    """Yield the wanted modules that lie in no other wanted one."""
    for child in module.children():
        if child in wanted:
            yield child
        else:
            yield from _outermost(child, wanted)


def _copy(output: Any) -> Any:
    """Return the output with its tensors copied: later layers may work in place."""
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, tuple | list):
        parts = [_copy(part) for part in output]
        # A named tuple takes its fields one by one.
        return (
            type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
        )
    if isinstance(output, dict):
        return {name: _copy(part) for name, part in output.items()}
    return output

# SPDX-License-Identifier: Apache-2.0
"""The attention whose weights are explained: which blocks, which grid, who reads it.

Rollout multiplies the attention of one block with that of the next, which means
something only while the tokens stay the same. So it starts behind the last step that
changes or mixes them otherwise: the whole of a ViT, and of a Swin the last stage,
where one window covers the grid. Which tokens the head reads is seen from a
gradient, so class tokens, distillation tokens and mean pooling need no table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from explain.architectures.grids import Grids
from explain.architectures.layouts import Tokens
from explain.architectures.resolve import require_classifier
from explain.architectures.tapped import TappedLayer
from explain.architectures.trace import Trace, example_for, trace_layers
from explain.attention_calls import AttentionCall, AttentionWatch
from explain.errors import (
    UnknownLayerError,
    UnsupportedLayerError,
    UnsupportedModelError,
    ZeroGradientLayerError,
)
from explain.frozen import frozen

AUTO = "auto"

#: Of the noise image; any does, but it must stay the same.
_SEED = 20200501


@dataclass(frozen=True, slots=True)
class TappedAttention(TappedLayer):
    """The attention of the last blocks of a transformer.

    ``name`` and ``module`` are those of the last attention.

    Attributes:
        modules: The names of the modules that compute it, the first first.
        blocks: The outermost module around each that holds no other attention.
        total: How often the network computes attention in one forward pass.
        readers: Positions of the tokens that the head reads.
        tokens: Places of the grid and the tokens before them.
    """

    modules: tuple[str, ...] = ()
    blocks: tuple[nn.Module, ...] = ()
    total: int = 0
    readers: tuple[int, ...] = ()
    tokens: Tokens = field(default_factory=lambda: Tokens(0, 1, 1))

    @property
    def first(self) -> int:
        """The number of the first attention that is explained, counted from 0."""
        return self.total - len(self.modules)


def resolve_attention(
    model: nn.Module, name: str = AUTO, example: Tensor | None = None
) -> TappedAttention:
    """Return the attention that can be explained, found by two forward passes.

    Without an example, a grey 224 x 224 image stands in, as for ``resolve_layer``.

    Raises:
        UnknownLayerError: no layer has that name.
        UnsupportedLayerError: the name is not that of the last attention.
        UnsupportedModelError: the network computes no attention among the places of
            one grid, or mixes them otherwise behind it.
        ZeroGradientLayerError: no class score depends on the attention.
    """
    known = dict(model.named_modules(remove_duplicate=False))
    if name != AUTO and (name not in known or not name):
        raise UnknownLayerError(name, known)
    image = (example_for(model) if example is None else example)[:1]
    trace = trace_layers(model, image)
    require_classifier(trace.output)
    events = mixing_events(model, image)
    found, tokens = _usable(events, trace, image)
    modules = tuple(event.module for event in found)
    if name not in {AUTO, modules[-1]}:
        raise UnsupportedLayerError(
            f"Layer {name!r} is not the network's last attention ({modules[-1]!r});"
            f" this method reads the attention of all blocks, so leave the layer at"
            f" 'auto'."
        )
    total = sum(event.call is not None for event in events)
    last = found[-1].call
    heads = 0 if last is None else last.weights(1).shape[1]
    return TappedAttention(
        name=modules[-1],
        module=known[modules[-1]],
        reason=_reason(len(modules), total, tokens),
        shape=(1, heads, tokens.height, tokens.width),
        layout=tokens,
        modules=modules,
        blocks=_blocks(known, modules),
        total=total,
        readers=_readers(model, image, total),
        tokens=tokens,
    )


@dataclass(frozen=True, slots=True, eq=False)
class MixingEvent:
    """A module that mixed places: by attention, or otherwise where call is None."""

    module: str
    call: AttentionCall | None


def mixing_events(model: nn.Module, image: Tensor) -> list[MixingEvent]:
    """Return what mixed places in one forward pass, in order."""
    events: list[MixingEvent] = []
    running: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: running.append(name)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        name = running.pop()
        if _mixes(module, inputs, output):
            events.append(MixingEvent(name, None))

    def listen(call: AttentionCall) -> Tensor:
        events.append(MixingEvent(running[-1] if running else "", call))
        return call.result

    hooks = []
    try:
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(enter(name)))
            hooks.append(module.register_forward_hook(leave))
        with frozen(model), torch.no_grad(), AttentionWatch(listen):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return events


def _mixes(module: nn.Module, inputs: Any, output: Any) -> bool:
    """Say whether a layer makes one place of several, other than by attention."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return any(side > 1 for side in module.kernel_size)
    # Patch merging halves the number of places.
    given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
    if given is None or not isinstance(output, Tensor) or output.ndim < 3:
        return False
    merges = "merg" in type(module).__name__.lower()
    return merges and given.numel() != output.numel()


def _usable(
    events: list[MixingEvent], trace: Trace, image: Tensor
) -> tuple[list[MixingEvent], Tokens]:
    """Return the last attentions that share one grid, and that grid."""
    grids = Grids.of(trace, (int(image.shape[-2]), int(image.shape[-1])))
    found: list[MixingEvent] = []
    tokens: Tokens | None = None
    for event in reversed(events):
        if event.call is None:
            break
        shape = event.call.shape
        square = len(shape) in {3, 4} and shape[-1] == shape[-2]
        whole = len(shape) == 3 or shape[0] == 1
        grid = grids.tokens(shape[-1]) if square and whole else None
        if grid is None or (tokens is not None and grid != tokens):
            break
        if any(event.module == other.module for other in found):
            raise UnsupportedModelError(
                f"Module {event.module!r} computes attention more than once; methods"
                f" of attention weights are not defined for it. Use 'gradcam'."
            )
        found.insert(0, event)
        tokens = grid
    if tokens is None:
        raise _no_attention(any(event.call is not None for event in events))
    return found, tokens


def _no_attention(some: bool) -> UnsupportedModelError:
    """Return the refusal of a network without attention among the places of a grid."""
    if not some:
        return UnsupportedModelError(
            "The model computes no attention that can be seen (it has none, or is"
            " compiled); methods of attention weights explain transformers. Use"
            " 'gradcam'."
        )
    return UnsupportedModelError(
        "The model's last attention is not among all places of one grid (windows"
        " smaller than the grid, pooling by attention, or convolutions behind it);"
        " methods of attention weights are not defined for it. Use 'gradcam'."
    )


def _blocks(
    known: dict[str, nn.Module], names: tuple[str, ...]
) -> tuple[nn.Module, ...]:
    """Return the outermost module around each attention that holds no other one."""
    blocks = []
    for name in names:
        others = [other for other in names if other != name]
        block = name
        while block:
            outer = block.rpartition(".")[0]
            if not outer or any(_holds(outer, other) for other in others):
                break
            block = outer
        blocks.append(known[block])
    return tuple(blocks)


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")


def _readers(model: nn.Module, image: Tensor, total: int) -> tuple[int, ...]:
    """Return the positions that the head reads: those whose gradient is not zero."""
    if image.device.type == "meta":
        raise UnsupportedModelError(
            "Which tokens the head reads is found by a backward pass; give the model"
            " real weights (not the meta device)."
        )
    taps: list[Tensor] = []
    calls: list[AttentionCall] = []

    def listen(call: AttentionCall) -> Tensor:
        calls.append(call)
        if len(calls) != total:
            return call.result
        taps.append(call.result.detach().requires_grad_())
        return taps[0]

    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.randn(tuple(image.shape), generator=generator)
    with (
        frozen(model),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        AttentionWatch(listen),
    ):
        logits = model(noise.to(image))
    classes = logits.shape[1]
    # Unequal weights: the sum of a softmax's outputs would depend on nothing.
    weights = 0.5 + torch.rand(classes, generator=generator)
    gradient: Tensor | None = None
    if logits.requires_grad:
        score = (logits.float() * weights.to(logits.device)).sum()
        (gradient,) = torch.autograd.grad(score, taps[0], allow_unused=True)
    if gradient is None or not bool((gradient != 0).any()):
        raise ZeroGradientLayerError(
            "The class scores do not depend on the network's last attention; are the"
            " weights of its head all zero, as before training?"
        )
    rows = (gradient != 0).any(dim=-1).flatten(0, -2).any(dim=0)
    return tuple(int(row) for row in rows.nonzero().flatten())


def _reason(used: int, total: int, tokens: Tokens) -> str:
    """Return why these blocks, in words."""
    grid = f"{tokens.height} x {tokens.width} places"
    if used == total:
        return f"attention of all {total} blocks, among {grid}"
    return (
        f"attention of the last {used} of {total} blocks, whose window is the whole"
        f" grid of {grid}"
    )

# SPDX-License-Identifier: Apache-2.0
"""Which layers the class scores depend on, from one backward pass.

The class token of a transformer reads the places through attention. After the
last attention nothing is read any more, so the places' gradient is exactly zero
there, and a map would be blank whatever the image shows.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from explain.architectures.layouts import Layout
from explain.architectures.trace import LayerRecord
from explain.errors import InvalidTargetError
from explain.frozen import frozen

#: Of the noise image and the class weights; any does, but it must stay the same.
_SEED = 20170307


def live_layers(
    model: nn.Module,
    example: Tensor,
    candidates: Mapping[str, tuple[LayerRecord, Layout]],
    target: int | None = None,
) -> frozenset[str] | None:
    """Return the names of the candidates whose map has a gradient that is not zero.

    The example's first image and one of seeded noise are classified; all candidates
    share one backward pass. The score is the target's logit, or a weighted sum of
    all logits, whose gradient is zero only where that of every class is. Tokens
    that are no places do not count. NaN is not zero.

    None means that nothing can be said: the model has no real weights (the meta
    device), it cannot be differentiated as it is (quantised, or cut off by no_grad),
    or the graph of two whole images does not fit into memory, which a run that
    differentiates the head alone does not need. Its items are then judged one by one.

    Raises:
        InvalidTargetError: the target is out of range.
    """
    if example.device.type == "meta" or not candidates:
        return None
    tapped: dict[str, Tensor] = {}
    hooks = []
    try:
        for name, (record, _) in candidates.items():
            tap = _tap(tapped, name, record.calls)
            hooks.append(record.module.register_forward_hook(tap))
        with frozen(model), torch.inference_mode(mode=False), torch.enable_grad():
            # A copy, since the first layer may work in place, which no leaf allows.
            images = _images(example).requires_grad_().clone()
            score = _score(model(images), target)
            gradients = _gradients(score, list(tapped.values()))
    except (RuntimeError, NotImplementedError):
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return frozenset(
        name
        for name, gradient in zip(tapped, gradients, strict=True)
        if gradient is not None
        and bool((candidates[name][1].to_map(gradient) != 0).any())
    )


def _tap(tapped: dict[str, Tensor], name: str, last: int) -> Any:
    """Return a hook that keeps the output of the layer's last call."""
    calls = 0

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls != last or not isinstance(output, Tensor):
            return None
        if not output.requires_grad:
            return None
        tapped[name] = output
        # What follows may work in place; it gets a copy, so that the gradient is
        # that of what the layer gave.
        return output.clone()

    return hook


def _images(example: Tensor) -> Tensor:
    """Return the example and an image of standard normal noise, (2, C, H, W).

    The example alone may be blank; noise alone may leave every ReLU of a small
    network shut. Values that are not finite would pass for a gradient.
    """
    generator = torch.Generator().manual_seed(_SEED)
    image = example.detach()[:1]
    if not image.is_floating_point():
        image = image.float()
    noise = torch.randn(tuple(image.shape), generator=generator)
    images = torch.cat([image, noise.to(device=image.device, dtype=image.dtype)])
    return images.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _score(logits: Tensor, target: int | None) -> Tensor:
    """Return what is differentiated: one logit, or a mixture of all of them."""
    classes = logits.shape[1]
    if target is not None:
        if not 0 <= target < classes:
            raise InvalidTargetError(
                f"Target class {target} is out of range: the model has classes 0 to"
                f" {classes - 1}."
            )
        return logits[:, target].float().sum()
    generator = torch.Generator().manual_seed(_SEED)
    # Unequal weights: the sum of a softmax's outputs would depend on nothing.
    weights = 0.5 + torch.rand(classes, generator=generator)
    return (logits.float() * weights.to(logits.device)).sum()


def _gradients(score: Tensor, tapped: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Return d score / d each output; None where the score does not depend on it."""
    if not tapped or not score.requires_grad:
        return (None,) * len(tapped)
    return torch.autograd.grad(score, tapped, allow_unused=True)

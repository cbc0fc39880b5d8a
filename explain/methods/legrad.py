# SPDX-License-Identifier: Apache-2.0
"""LeGrad: how sensitive each block's contribution is to its attention.

    s_l = target logit that the head gives of the tokens behind block l
    map = mean over blocks, heads and queries of ReLU(d s_l / d A_l), at the places

Each block is differentiated by itself: its attention is a root, and what it hands on
to the next block has no graph. The head runs once, on the tokens of all blocks as if
they were a larger batch. As in the authors' code each block's tokens are first
replaced by their mean; ``pooling: head`` leaves the choice to the network's head.

Source: Bousselham et al. 2024, "LeGrad: An Explainability Method for Vision
Transformers via Feature Formation Sensitivity", section 3.2.
"""

from typing import Any

import torch
from torch import Tensor, nn

from explain.architectures.attention import TappedAttention
from explain.attention_calls import AttentionCall, AttentionWatch
from explain.context import ItemContext
from explain.errors import UnsupportedModelError, ZeroGradientLayerError
from explain.frozen import frozen
from explain.methods.attention_forward import CallKeeper, as_grid
from explain.methods.input_forward import (
    as_columns,
    like_targets,
    require_images,
    spoiled,
)
from explain.methods.method import Attribution, chosen_targets


class LeGrad:
    """LeGrad of one transformer."""

    name = "legrad"

    def __init__(
        self, model: nn.Module, layer: TappedAttention, pooling: str = "mean"
    ) -> None:
        self._model = model
        self._layer = layer
        self._mean = pooling == "mean"

    @property
    def passes(self) -> float:
        """A forward pass, and the backward pass of each block behind its attention."""
        return 2.2

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the LeGrad map of each item's target.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the attention is not that which was resolved, or no score
                depends on it.
            UnsupportedModelError: the head does not take each block's tokens.
        """
        require_images(inputs)
        with frozen(self._model):
            logits, scores, calls = self._forward(inputs)
            classes = chosen_targets(logits, targets)
            maps, blank = [], []
            columns = as_columns(classes).unbind(dim=1)
            for number, column in enumerate(columns, start=1):
                slopes = _slopes(scores, column, calls, last=number == len(columns))
                with torch.no_grad():
                    rows = [
                        call.gradient(slope, len(inputs)).relu_().mean(dim=(1, 2))
                        for call, slope in zip(calls, slopes, strict=True)
                    ]
                    row = torch.stack(rows).mean(dim=0)
                    maps.append(as_grid(self._layer, row).float())
                    flat = [slope.reshape(len(inputs), -1) for slope in slopes]
                    zero = [(each == 0).all(dim=1) for each in flat]
                    blank.append(torch.stack(zero).all(dim=0))
        stacked = spoiled(torch.stack(maps, dim=1), logits, classes)
        return Attribution(
            logits=logits,
            targets=classes,
            maps=like_targets(stacked, classes),
            zero_gradient=like_targets(torch.stack(blank, dim=1), classes),
        )

    def _forward(
        self, inputs: Tensor
    ) -> tuple[Tensor, Tensor, tuple[AttentionCall, ...]]:
        """Return logits (N, K), the scores of every block (L, N, K), its attention."""
        layer, items = self._layer, len(inputs)
        keeper = CallKeeper(layer, items, graph=True, cut=True)
        given: list[Tensor] = []

        def behind(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            tokens = self._tokens(output)
            given.append(tokens)
            if len(given) < len(layer.blocks):
                return _like(output, tokens.detach())
            asked = [self._pooled(tokens) for tokens in given]
            return _like(output, torch.cat([tokens.detach(), *asked]))

        hooks = [block.register_forward_hook(behind) for block in layer.blocks]
        try:
            with (
                torch.inference_mode(mode=False),
                torch.enable_grad(),
                AttentionWatch(keeper),
            ):
                images = (
                    inputs.clone() if inputs.is_inference() else inputs.detach().clone()
                )
                scores = self._model(images)
        finally:
            for hook in hooks:
                hook.remove()
        blocks = len(layer.blocks)
        if not isinstance(scores, Tensor) or len(scores) != items * (blocks + 1):
            raise _no_tokens()
        logits = scores[:items].detach().float()
        return logits, scores[items:].view(blocks, items, -1), keeper.result()

    def _tokens(self, output: Any) -> Tensor:
        """Return the tokens that a block gave, refusing what are none."""
        tokens = output[0] if isinstance(output, tuple) and output else output
        layout = self._layer.tokens
        count = layout.prefix + layout.height * layout.width
        if not isinstance(tokens, Tensor) or tokens.ndim not in {3, 4}:
            raise _no_tokens()
        if tokens.shape[1:-1].numel() != count:
            raise _no_tokens()
        return tokens

    def _pooled(self, tokens: Tensor) -> Tensor:
        """Return the mean over tokens in place of each, or the tokens as they are."""
        if not self._mean:
            return tokens
        places = tuple(range(1, tokens.ndim - 1))
        return tokens.mean(dim=places, keepdim=True).expand_as(tokens)


def _no_tokens() -> UnsupportedModelError:
    """Return the refusal of a model whose blocks or head are not as LeGrad needs."""
    return UnsupportedModelError(
        "The model's blocks do not hand on tokens that its head takes, one block's like"
        " another's, as LeGrad needs; use 'generic_attention'."
    )


def _like(output: Any, tokens: Tensor) -> Any:
    """Return the tokens in the form in which the block gave its own."""
    return tokens if isinstance(output, Tensor) else (tokens, *output[1:])


def _slopes(
    scores: Tensor, classes: Tensor, calls: tuple[AttentionCall, ...], *, last: bool
) -> tuple[Tensor, ...]:
    """Return d s_l / d result of each block's attention.

    Shape: scores (L, N, K), classes (N,).
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        chosen = classes[None, :, None].expand(len(scores), -1, 1).clone()
        score = scores.gather(2, chosen).sum()
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            score,
            [call.result for call in calls],
            allow_unused=True,
            retain_graph=not last,
        )
    slopes = tuple(slope for slope in found if slope is not None)
    if len(slopes) != len(calls):
        raise ZeroGradientLayerError(
            "The scores of the blocks do not depend on every attention of the model;"
            " use 'generic_attention'."
        )
    return slopes

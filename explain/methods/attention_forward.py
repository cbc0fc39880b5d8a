# SPDX-License-Identifier: Apache-2.0
"""A forward pass that keeps the attention of its last blocks, with a graph or without.

The graph begins at the first attention that is explained. Weights are made again from
queries and keys, for one block at a time and when they are needed, so that memory
never holds the weights of all heads of all blocks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain.architectures.attention import TappedAttention
from explain.attention_calls import AttentionCall, AttentionWatch
from explain.errors import UnsupportedLayerError, ZeroGradientLayerError
from explain.methods.input_forward import require_images, require_logits


@dataclass(frozen=True, slots=True, eq=False)
class AttentionForward:
    """The logits of one batch and the attention that they grow from.

    Attributes:
        logits: (N, K).
        calls: The explained attentions, the first first.
    """

    logits: Tensor
    calls: tuple[AttentionCall, ...]

    def weights(self, block: int) -> Tensor:
        """Return the attention weights of a block, (N, H, L, L).

        Without a graph H is 1: the mean over heads.
        """
        return self.calls[block].weights(len(self.logits))

    def slopes(self, classes: Tensor, *, last: bool = True) -> tuple[Tensor, ...]:
        """Return d logit[class] / d result of each attention, for ``gradient``.

        Args:
            classes: (N,) int64.
            last: Whether the graph may be freed; False when more will be asked.

        Raises:
            ZeroGradientLayerError: no class score depends on the attention.
        """
        found: tuple[Tensor | None, ...] = (None,)
        results = [call.result for call in self.calls]
        if self.logits.requires_grad:
            with torch.inference_mode(mode=False), torch.enable_grad():
                score = self.logits.gather(1, classes[:, None].clone()).sum()
                found = torch.autograd.grad(
                    score, results, allow_unused=True, retain_graph=not last
                )
        slopes = tuple(slope for slope in found if slope is not None)
        if len(slopes) != len(results):
            raise ZeroGradientLayerError(
                "The class scores do not depend on every attention of the model, or"
                " it cuts gradients off; use 'gradcam'."
            )
        return slopes

    def gradient(self, block: int, slope: Tensor) -> Tensor:
        """Return d logit / d weights of a block from its slope, (N, H, L, L)."""
        return self.calls[block].gradient(slope, len(self.logits))


def attention_forward(
    model: nn.Module, layer: TappedAttention, inputs: Tensor, *, graph: bool
) -> AttentionForward:
    """Return the logits, with a graph that begins at the first explained attention.

    The model must be held by ``frozen``. Without a graph only the mean over heads of
    the weights is kept.

    Raises:
        InvalidInputError: the inputs are not a batch of images.
        UnsupportedLayerError: attention has another shape than for the example.
        UnsupportedModelError: the model does not return (N, K) logits.
    """
    require_images(inputs)
    keeper = CallKeeper(layer, len(inputs), graph=graph)
    with torch.inference_mode(mode=False), torch.set_grad_enabled(graph):
        # Tensors born under inference mode cannot take part in any graph; a network
        # that works in place on its input gets a copy.
        images = inputs.clone() if inputs.is_inference() else inputs.detach().clone()
        with AttentionWatch(keeper):
            logits = require_logits(model(images), len(inputs))
    return AttentionForward(logits, keeper.result())


class CallKeeper:
    """Keeps the explained attentions of one forward pass, in order.

    With a graph the first result is its root. With ``cut`` every result is a root of
    its own, so that gradients reach back to the nearest attention only.
    """

    def __init__(
        self, layer: TappedAttention, items: int, *, graph: bool, cut: bool = False
    ) -> None:
        self._layer = layer
        self._items = items
        self._graph = graph
        self._cut = cut
        self._seen = 0
        self._kept: list[AttentionCall] = []

    def __call__(self, call: AttentionCall) -> Tensor:
        """Return what the network goes on with."""
        number, self._seen = self._seen, self._seen + 1
        if number < self._layer.first:
            return call.result
        self._check(call.shape)
        if not self._graph:
            # Nothing will be differentiated: queries and keys need not be kept.
            mean = call.weights(self._items).mean(dim=1)
            self._kept.append(AttentionCall(mean))
            return call.result
        self._kept.append(call)
        if self._cut or len(self._kept) == 1:
            call.result = call.result.detach().requires_grad_()
        # What comes next may work in place.
        return call.result.clone()

    def _check(self, shape: tuple[int, ...]) -> None:
        tokens = self._layer.tokens
        count = tokens.prefix + tokens.height * tokens.width
        rows = len(shape) == 4 and shape[0] != self._items
        if rows or shape[-2:] != (count, count) or shape[0] % self._items:
            raise UnsupportedLayerError(
                f"Attention {self._layer.name!r} has weights of shape {shape}; expected"
                f" {count} x {count} for each item, as for the example that it was"
                f" resolved with."
            )

    def result(self) -> tuple[AttentionCall, ...]:
        """Return the kept attentions, refusing another number than was resolved."""
        if self._seen != self._layer.total:
            raise UnsupportedLayerError(
                f"The model computed attention {self._seen} times in this forward pass,"
                f" expected {self._layer.total}."
            )
        return tuple(self._kept)


def read_rows(layer: TappedAttention, like: Tensor) -> Tensor:
    """Return which tokens the head reads, as weights that sum to 1.

    Shape: like (N, L, L) or (N, H, L, L) -> (N, 1, L) of its type.
    """
    row = like.new_zeros(like.shape[-1])
    row[list(layer.readers)] = 1 / len(layer.readers)
    return row.expand(len(like), 1, -1)


def as_grid(layer: TappedAttention, row: Tensor) -> Tensor:
    """Return a row over tokens as a map of the places.

    Shape: (N, 1, L) or (N, L) -> (N, h, w).
    """
    tokens = layer.tokens
    places = row.reshape(len(row), -1)[:, tokens.prefix :]
    return places.reshape(-1, tokens.height, tokens.width)

# SPDX-License-Identifier: Apache-2.0
"""The attention that a network of texts computes in a pass, and who reads it.

Weights are made again from queries and keys, a block at a time, so that the network
stays on its fused attention. Which tokens the head reads is seen from a gradient: of
BERT, RoBERTa and DistilBERT the first one, of a mean over tokens all of them.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from explain.attention_calls import AttentionCall, AttentionWatch
from explain.errors import UnsupportedModelError, ZeroGradientLayerError
from explain.text.network import TextNetwork
from explain.text.passes import Pass
from explain.text.words import by_word

#: How often a network computes attention in one forward pass.
_blocks: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class PassAttention:
    """The logits of one pass and the attention that they grow from.

    Attributes:
        rows: The pass.
        logits: (R, K), with a graph that begins at the first attention or the last.
        calls: The attention of each block, the first first.
    """

    rows: Pass
    logits: Tensor
    calls: tuple[AttentionCall, ...]

    def weights(self, block: int) -> Tensor:
        """Return the attention weights of a block, (R, H, L, L); rows sum to 1."""
        return self.calls[block].weights(len(self.logits))

    def gradient(self, block: int, slope: Tensor) -> Tensor:
        """Return d score / d weights of a block from its slope, (R, H, L, L)."""
        return self.calls[block].gradient(slope, len(self.logits))

    def slopes(
        self, score: Tensor, *, last: bool = True, end: bool = False
    ) -> tuple[Tensor, ...]:
        """Return d score / d result of each block's attention.

        Args:
            score: One number, made of the logits.
            last: Whether the graph may be freed.
            end: Of the last block alone.

        Raises:
            ZeroGradientLayerError: the score does not depend on every block.
        """
        found: tuple[Tensor | None, ...] = (None,)
        results = [call.result for call in self.calls[-1 if end else 0 :]]
        if score.requires_grad:
            found = torch.autograd.grad(
                score, results, allow_unused=True, retain_graph=not last
            )
        slopes = tuple(slope for slope in found if slope is not None)
        if len(slopes) != len(results):
            raise ZeroGradientLayerError(
                "The class scores do not depend on every attention of the network of"
                " texts, or it cuts gradients off; use 'gradient_x_input' or"
                " 'occlusion'."
            )
        return slopes

    def readers(self, slope: Tensor) -> Tensor:
        """Return which tokens the head reads, as weights that sum to 1.

        Args:
            slope: That of the last block's attention.

        Shape: (R, 1, L) float32, or float64 of a float64 network; zero throughout
        where the score does not depend on the attention.
        """
        rows, length = self.rows.tokens.shape
        read = (slope.reshape(rows, -1, length, slope.shape[-1]) != 0).any(dim=3)
        found = read.any(dim=1).to(self.weights(0).dtype)
        return (found / found.sum(dim=1, keepdim=True).clamp(min=1))[:, None]

    def word_map(self, of_tokens: Tensor, count: int) -> Tensor:
        """Return numbers of tokens summed by word, of the rows that count.

        Shape: (R, L) -> (used, count).
        """
        used = self.rows.used
        return by_word(of_tokens[:used], self.rows.words[:used], count)


def attention_pass(
    network: TextNetwork, rows: Pass, gates: Tensor, *, end: bool = False
) -> PassAttention:
    """Return the logits of a pass and its attention.

    The network must be held by ``frozen``.

    Args:
        network: The network over the texts.
        rows: The pass.
        gates: The gates of all rows.
        end: Whether the graph begins at the last attention, which costs less.

    Raises:
        UnsupportedModelError: it computes no attention that can be seen, or attention
            among other things than all tokens of a text.
    """
    calls: list[AttentionCall] = []
    root = _count(network, rows, gates) if end else 1

    def listen(call: AttentionCall) -> Tensor:
        calls.append(call)
        if len(calls) == root:
            call.result = call.result.detach().requires_grad_()
        # What comes next may work in place.
        return call.result.clone()

    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        AttentionWatch(listen),
    ):
        logits = network.run_whole(rows, gates.detach().clone())
    _require_token_attention(calls, *rows.tokens.shape)
    return PassAttention(rows, logits, tuple(calls))


def _count(network: TextNetwork, rows: Pass, gates: Tensor) -> int:
    """Return how often the network computes attention, found by a pass of its own.

    The pass that is explained is the same whether or not the number was known.
    """
    if network.network not in _blocks:
        seen: list[AttentionCall] = []

        def count(call: AttentionCall) -> Tensor:
            seen.append(call)
            return call.result

        with torch.no_grad(), AttentionWatch(count):
            network.run_whole(rows, gates)
        _blocks[network.network] = len(seen)
    return _blocks[network.network]


def _require_token_attention(
    calls: list[AttentionCall], rows: int, length: int
) -> None:
    if not calls:
        raise UnsupportedModelError(
            "The network of texts computes no attention that can be seen (it has none,"
            " or is compiled); methods of attention weights explain transformers. Use"
            " 'gradient_x_input' or 'occlusion'."
        )
    for call in calls:
        shape = call.shape
        if shape[-2:] != (length, length) or shape[0] % rows:
            raise UnsupportedModelError(
                f"The network of texts computes attention of shape {shape}, not among"
                f" all {length} tokens of a text; methods of attention weights are not"
                f" defined for it. Use 'gradient_x_input' or 'occlusion'."
            )

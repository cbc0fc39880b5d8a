# SPDX-License-Identifier: Apache-2.0
"""Numbers of words spread over their tokens, and numbers of tokens summed by word.

Each is the other's derivative. On a GPU a scatter adds the tokens of one word in any
order, and so gives other last bits from run to run; here they are added in the order
of the text.
"""

from typing import Any

import torch
from torch import Tensor

from explain.text.content import NO_WORD


def over_tokens(values: Tensor, words: Tensor) -> Tensor:
    """Return each token's number, which is its word's; 0 of tokens without a word.

    Differentiable in the values.

    Shape: values (R, W), words (R, L) int64 -> (R, L).
    """
    spread: Tensor = _OverTokens.apply(values, words)
    return spread


def by_word(values: Tensor, words: Tensor, count: int) -> Tensor:
    """Return the sum over each word's tokens; those without a word count nowhere.

    Shape: values (R, L), words (R, L) int64 -> (R, count).
    """
    rows = len(words)
    order = _order_in_word(words)
    sums = values.new_zeros(rows, count + 1)
    # One token of each word at a time, so that no two are added at once.
    behind = torch.full_like(words, count)
    for number in range(int(order.max()) + 1):
        places = torch.where((order == number) & (words != NO_WORD), words, behind)
        sums = sums + torch.zeros_like(sums).scatter_(1, places, values)
    return sums[:, :count]


def _order_in_word(words: Tensor) -> Tensor:
    """Return the number of each token among its word's, whose tokens lie together."""
    place = torch.arange(words.shape[1], device=words.device).expand_as(words)
    starts = torch.ones_like(words, dtype=torch.bool)
    starts[:, 1:] = words[:, 1:] != words[:, :-1]
    starts |= words == NO_WORD
    first = torch.where(starts, place, 0).cummax(dim=1).values
    return place - first


class _OverTokens(torch.autograd.Function):
    """The spreading, whose gradient is summed in order."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, words: Tensor) -> Tensor:
        ctx.save_for_backward(words)
        ctx.count = values.shape[1]
        spread = values.gather(1, words.clamp(min=0))
        return torch.where(words == NO_WORD, 0.0, spread)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (words,) = ctx.saved_tensors
        return by_word(gradient, words, ctx.count), None

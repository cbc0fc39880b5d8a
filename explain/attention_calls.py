# SPDX-License-Identifier: Apache-2.0
"""Where a network computes attention, seen without changing the network.

Fused attention returns no weights. While the watch is on, each call of torch's fused
attention hands over its queries, keys and values, from which the weights are made
again for the calls that are asked about; the network itself stays on its fast path.
Attention written out by hand hands over its softmax. Torch, torchvision, timm and
transformers all come down to one of these two calls, whatever their modules are named.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_FUSED = functional.scaled_dot_product_attention
_SOFTMAXES = {functional.softmax, torch.softmax, Tensor.softmax}
_MULTI_HEAD = functional.multi_head_attention_forward


@dataclass(slots=True, eq=False)
class AttentionCall:
    """One computation of attention in one forward pass.

    Attributes:
        result: What the network goes on with: the mixed values (N, H, L, d) of fused
            attention, or the weights (N, H, L, S) of a softmax.
        query, key, value: (N, H, L or S, d) of fused attention, else None.
        bias: What is added to its scores, broadcast to (N, H, L, S), or None.
        scale: What its scores are multiplied by.
    """

    result: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    bias: Tensor | None = None
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The weights' shape: (N, H, L, S), or (N * H, L, S) of a plain softmax."""
        if self.query is None or self.key is None:
            return tuple(self.result.shape)
        return (*self.query.shape[:-1], self.key.shape[-2])

    def weights(self, items: int) -> Tensor:
        """Return the attention weights, without a graph, in float32 at least.

        Shape: (items, H, L, S); each row sums to 1.
        """
        with torch.no_grad():
            if self.query is None or self.key is None:
                return _by_item(wide(self.result), items)
            scores = wide(self.query) @ wide(self.key).transpose(-2, -1)
            scores *= self.scale
            if self.bias is not None:
                scores += self.bias
            return torch.softmax(scores, dim=-1)

    def gradient(self, slope: Tensor, items: int) -> Tensor:
        """Return d y / d weights from d y / d result.

        The mixed values are weights @ value, so their slope times the values is the
        slope of the weights, and fused attention need not be unfolded.

        Shape: (items, H, L, S).
        """
        with torch.no_grad():
            if self.value is None:
                return _by_item(wide(slope), items)
            return wide(slope) @ wide(self.value).transpose(-2, -1)


#: Told of each call; what it returns is what the network goes on with.
Listener = Callable[[AttentionCall], Tensor]


class AttentionWatch(TorchFunctionMode):
    """While active, tells of every attention that the network computes, in order.

    Nothing of the model is changed, so there is nothing to restore but the mode.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is _MULTI_HEAD:
            with self:  # so that the attention within it is seen
                return _unfolded_multi_head(*args, **kwargs)
        result = func(*args, **kwargs)
        call: AttentionCall | None = None
        if func is _FUSED:
            call = _fused_call(result, *args, **kwargs)
        elif func in _SOFTMAXES and _is_attention(result, args, kwargs):
            call = AttentionCall(result)
        return result if call is None else self._listener(call)


def _never(*_: Any) -> bool:
    return False


# torch's multi-head attention hands itself to an active mode before it computes
# anything, again and again; this copy of it leaves out that one question.
_unfolded_multi_head = FunctionType(
    _MULTI_HEAD.__code__,
    {**_MULTI_HEAD.__globals__, "has_torch_function": _never},
    _MULTI_HEAD.__name__,
    _MULTI_HEAD.__defaults__,
    _MULTI_HEAD.__closure__,
)
_unfolded_multi_head.__kwdefaults__ = _MULTI_HEAD.__kwdefaults__


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor without a graph in float32, or in float64 where it is that."""
    tensor = tensor.detach()
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _fused_call(  # noqa: PLR0913, PLR0917 - the arguments of torch's own function
    result: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 - zero in eval mode
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """Return what torch's fused attention was asked, and what it gave."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key = key.repeat_interleave(groups, dim=-3)
        value = value.repeat_interleave(groups, dim=-3)
    return AttentionCall(
        result,
        query,
        key,
        value,
        _bias(query, key, attn_mask, is_causal=is_causal),
        1 / math.sqrt(query.shape[-1]) if scale is None else scale,
    )


def _bias(
    query: Tensor, key: Tensor, mask: Tensor | None, *, is_causal: bool
) -> Tensor | None:
    """Return what is added to the scores: the mask in numbers."""
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    if mask is None or mask.dtype != torch.bool:
        return None if mask is None else wide(mask)
    zeros = torch.zeros(mask.shape, device=mask.device)
    return zeros.masked_fill(~mask, -torch.inf)


def _is_attention(result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether a softmax is over the last axis of scores of places by places."""
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if not isinstance(result, Tensor) or result.ndim not in {3, 4}:
        return False
    return axis in {-1, result.ndim - 1} and result.shape[-1] > 1


def _by_item(weights: Tensor, items: int) -> Tensor:
    """Return weights with the heads on an axis of their own."""
    if weights.ndim == 4:
        return weights
    return weights.view(items, len(weights) // items, *weights.shape[1:])

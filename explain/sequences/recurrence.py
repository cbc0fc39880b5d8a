# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers over sequences of different lengths, without packing.

A packed batch runs fewer rows the fewer sequences are left, and a matrix product of
other rows has other last bits: a sequence's states would then depend on how long its
neighbours are. Here every step runs all rows. Forward in time a step knows nothing of
what follows it, so that what lies behind a sequence cannot reach it; backward in time
each sequence is turned round within its own length.

A layer whose ``forward`` is replaced by one that runs step by step (`unrolled`) is run
that way instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

#: Kinds of layers that can be run here.
RECURRENT = (nn.LSTM, nn.GRU)


@runtime_checkable
class StepByStep(Protocol):
    """A layer's replaced forward."""

    def run(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return as `recurrent_states`."""


def recurrent_states(
    layer: nn.LSTM | nn.GRU, values: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the top layer's states at each step, and its states at the end.

    The end of a direction is a sequence's last step, or its first one backward in
    time. States behind a sequence's end mean nothing.

    Args:
        layer: With ``batch_first``, without projections; of any depth.
        values: The sequences, filled up to a common length.
        lengths: Of each, at least 1.

    Shape: values (N, T, F), lengths (N,) int64 -> (N, T, D H), (N, D H), D the
    directions.
    """
    forward: object = layer.forward
    if isinstance(forward, StepByStep):
        return forward.run(values, lengths)
    lengths = lengths.to(values.device)
    last = lengths - 1
    rows = torch.arange(len(values), device=values.device)
    if not layer.bidirectional:
        states, _ = layer(values)
        return states, states[rows, last]
    turned = turned_round(values.shape[1], lengths)
    given = values
    for depth in range(layer.num_layers):
        ahead = _one_direction(layer, given, depth, suffix="")
        behind = _one_direction(
            layer, given[rows[:, None], turned], depth, suffix="_reverse"
        )
        ends = torch.cat([ahead[rows, last], behind[rows, last]], dim=1)
        given = torch.cat([ahead, behind[rows[:, None], turned]], dim=2)
        if layer.training and layer.dropout and depth + 1 < layer.num_layers:
            given = nn.functional.dropout(given, layer.dropout)
    return given, ends


def turned_round(steps: int, lengths: Tensor) -> Tensor:
    """Return where each step goes when sequences are turned round in their lengths.

    Steps behind a sequence's end stay where they are.

    Shape: lengths (N,) -> (N, steps) int64.
    """
    place = torch.arange(steps, device=lengths.device)
    mirrored = lengths[:, None] - 1 - place
    return torch.where(mirrored >= 0, mirrored, place)


def layer_weights(layer: nn.LSTM | nn.GRU, depth: int, suffix: str) -> list[Tensor]:
    """Return input and state weights of one layer and direction, and their biases."""
    names = [f"weight_ih_l{depth}{suffix}", f"weight_hh_l{depth}{suffix}"]
    if layer.bias:
        names += [f"bias_ih_l{depth}{suffix}", f"bias_hh_l{depth}{suffix}"]
    return [getattr(layer, name) for name in names]


def _one_direction(
    layer: nn.LSTM | nn.GRU, values: Tensor, depth: int, *, suffix: str
) -> Tensor:
    """Return the states of one layer, forward in time, (N, T, H)."""
    zero = values.new_zeros(1, len(values), layer.hidden_size)
    weights = layer_weights(layer, depth, suffix)
    # Has biases, layers, dropout, training, bidirectional, batch first.
    how = (layer.bias, 1, 0.0, layer.training, False, True)
    with differentiable(layer, values):
        if isinstance(layer, nn.LSTM):
            states: Tensor = torch.lstm(values, (zero, zero), weights, *how)[0]
        else:
            states = torch.gru(values, zero, weights, *how)[0]
    return states


@contextmanager
def differentiable(network: nn.Module, values: Tensor) -> Iterator[None]:
    """Within the block recurrent layers can be differentiated in eval mode.

    cuDNN keeps what that needs in training mode alone, so where a gradient is asked
    for on a GPU those layers run without it.
    """
    wanted = values.requires_grad and torch.is_grad_enabled()
    if not (values.is_cuda and wanted):
        yield
        return
    with without_cudnn(network):
        yield


@contextmanager
def without_cudnn(network: nn.Module) -> Iterator[None]:
    """Within the block the network's recurrent layers, and no others, leave out cuDNN.

    A network that is such a layer itself may be run by its own functions, so that the
    whole block does.
    """
    before = torch.backends.cudnn.enabled
    if isinstance(network, nn.RNNBase):
        torch.backends.cudnn.enabled = False
        try:
            yield
        finally:
            torch.backends.cudnn.enabled = before
        return

    def enter(*_: object) -> None:
        torch.backends.cudnn.enabled = False

    def leave(*_: object) -> None:
        torch.backends.cudnn.enabled = before

    layers = [one for one in network.modules() if isinstance(one, nn.RNNBase)]
    handles = [one.register_forward_pre_hook(enter) for one in layers]
    handles += [one.register_forward_hook(leave, always_call=True) for one in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        torch.backends.cudnn.enabled = before

# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers run step by step with their own weights, every state in reach.

The gradient at the output of ``nn.LSTM`` is that of what is read of it alone, so it is
zero at all steps but the last where a classifier reads the last. The gradient of the
states that are handed from step to step flows through time:

    LSTM  i, f, g, o = W x_t + b + U h + d;  c' = s(f) c + s(i) tanh(g)
          h' = s(o) tanh(c')
    GRU   r = s(W_r x_t + b_r + U_r h + d_r), z alike
          n = tanh(W_n x_t + b_n + r (U_n h + d_n));  h' = (1 - z) n + z h

with s the logistic function. cuDNN has no part in it, so that gradients can be had in
eval mode.

Source: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", with the forget gate
of Gers et al. 2000; Cho et al. 2014, "Learning Phrase Representations using RNN
Encoder-Decoder for Statistical Machine Translation", section 2.3.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from explain.errors import UnsupportedModelError
from explain.sequences.recurrence import RECURRENT, layer_weights

#: What a cell keeps: (h,) of a GRU, (h, c) of an LSTM; each (N, H).
State = tuple[Tensor, ...]
#: What a layer returns beside its output: (D L, N, H), a pair of them of an LSTM.
Ends = Tensor | tuple[Tensor, Tensor]


@dataclass(slots=True, eq=False)
class Trace:
    """The states of one layer in one direction, as handed on.

    Attributes:
        states: After each step, in the order of time, with their graph.
        first: Before the direction's first step.
        backward: Whether the direction is backward in time.
        lengths: (N,) int64; behind a sequence's end the state is that of the end.
    """

    states: list[State]
    first: State
    backward: bool
    lengths: Tensor


@dataclass(slots=True)
class _Forward:
    """Stands in for the forward of one layer while it is unrolled."""

    layer: nn.LSTM | nn.GRU
    traces: list[Trace]

    def __call__(
        self, given: Tensor | PackedSequence, first: object = None
    ) -> tuple[Tensor | PackedSequence, Ends]:
        """Return what the layer itself would return.

        Raises:
            UnsupportedModelError: the layer is used in a way that hides its steps.
        """
        if first is not None:
            raise UnsupportedModelError(
                "The network gives a recurrent layer a state to begin with, so that its"
                " steps cannot be told apart; take another method, such as"
                " integrated_gradients."
            )
        if isinstance(given, PackedSequence):
            values, lengths = pad_packed_sequence(given, batch_first=True)
            states, ends = self._run(values, lengths)
            return (
                pack_padded_sequence(
                    states, lengths, batch_first=True, enforce_sorted=False
                ),
                ends,
            )
        batch = given if self.layer.batch_first else given.transpose(0, 1)
        lengths = torch.full((len(batch),), batch.shape[1], dtype=torch.int64)
        states, ends = self._run(batch, lengths)
        return (states if self.layer.batch_first else states.transpose(0, 1)), ends

    def run(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return as `explain.sequences.recurrence.recurrent_states`."""
        states, ends = self._run(values, lengths)
        hidden = ends if isinstance(ends, Tensor) else ends[0]
        directions = 2 if self.layer.bidirectional else 1
        return states, hidden[-directions:].transpose(0, 1).flatten(1)

    def _run(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Ends]:
        """Return states (N, T, D H) and, for each layer and direction, the ends."""
        lengths = lengths.to(values.device)
        inside = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
        ends: list[State] = []
        for depth in range(self.layer.num_layers):
            sides = []
            for backward in (False, True)[: 2 if self.layer.bidirectional else 1]:
                trace = self._traced(values, inside, depth, lengths, backward=backward)
                self.traces.append(trace)
                ends.append(trace.states[0 if backward else -1])
                sides.append(torch.stack([state[0] for state in trace.states], dim=1))
            values = torch.cat(sides, dim=2) * inside[:, :, None]
        hidden = torch.stack([end[0] for end in ends])
        if isinstance(self.layer, nn.GRU):
            return values, hidden
        return values, (hidden, torch.stack([end[1] for end in ends]))

    def _traced(
        self,
        values: Tensor,
        inside: Tensor,
        depth: int,
        lengths: Tensor,
        *,
        backward: bool,
    ) -> Trace:
        cell = _LstmCell if isinstance(self.layer, nn.LSTM) else _GruCell
        step = cell(layer_weights(self.layer, depth, "_reverse" if backward else ""))
        shares = step.shares(values).unbind(dim=1)
        zero = values.new_zeros(len(values), self.layer.hidden_size)
        first: State = (zero,) if isinstance(self.layer, nn.GRU) else (zero, zero)
        steps = range(values.shape[1])
        state = first
        states: list[State] = [first] * len(steps)
        some_end = bool((lengths < values.shape[1]).any())
        for place in reversed(steps) if backward else steps:
            moved = step(shares[place], state)
            if some_end:
                here = inside[:, place, None]
                moved = tuple(
                    torch.where(here, new, old)
                    for new, old in zip(moved, state, strict=True)
                )
            # What is handed on is a tensor of its own, so that its gradient leaves
            # out how the cell's parts make each other within the step.
            state = tuple(part.view_as(part) for part in moved)
            states[place] = state
        return Trace(states, first, backward, lengths)


class _LstmCell:
    """One step of an LSTM, in as few operations as can be."""

    def __init__(self, weights: list[Tensor]) -> None:
        """Take the weights; the three gates come first, then what is new."""
        size = weights[1].shape[1]
        order = torch.arange(4 * size).view(4, size)[[0, 1, 3, 2]].flatten()
        ordered = [weight[order.to(weight.device)] for weight in weights]
        self._input, state = ordered[:2]
        self._state = state.T.contiguous()
        # Neither bias is multiplied by anything that a step changes.
        self._bias = ordered[2] + ordered[3] if len(ordered) > 2 else None
        self._sizes = [3 * size, size]

    def shares(self, values: Tensor) -> Tensor:
        """Return what the inputs of all steps give, (N, T, 4 H)."""
        return functional.linear(values, self._input, self._bias)

    def __call__(self, share: Tensor, state: State) -> State:
        """Return (h', c') after one step."""
        gates, new = torch.addmm(share, state[0], self._state).split(self._sizes, 1)
        opened, kept, shown = gates.sigmoid().chunk(3, dim=1)
        cell = torch.addcmul(kept * state[1], opened, new.tanh())
        return shown * cell.tanh(), cell


class _GruCell:
    """One step of a GRU."""

    def __init__(self, weights: list[Tensor]) -> None:
        """Take the weights."""
        self._input, state = weights[:2]
        self._state = state.T.contiguous()
        zero = state.new_zeros(len(state))
        input_bias, self._bias = weights[2:] or (zero, zero)
        self._input_bias = input_bias
        self._size = state.shape[1]

    def shares(self, values: Tensor) -> Tensor:
        """Return what the inputs of all steps give, (N, T, 3 H)."""
        return functional.linear(values, self._input, self._input_bias)

    def __call__(self, share: Tensor, state: State) -> State:
        """Return (h',) after one step."""
        sizes = [2 * self._size, self._size]
        gates, new = share.split(sizes, 1)
        recurrent = torch.addmm(self._bias, state[0], self._state)
        more_gates, more_new = recurrent.split(sizes, 1)
        reset, kept = (gates + more_gates).sigmoid().chunk(2, dim=1)
        new = torch.addcmul(new, reset, more_new).tanh()
        return (torch.lerp(new, state[0], kept),)


@contextmanager
def unrolled(network: nn.Module) -> Iterator[list[Trace]]:
    """Within the block the network's LSTM and GRU layers run step by step.

    What they went through is in the list, a trace for each layer, direction and call.
    The layers are given back as they were, by whatever path the block is left.

    Raises:
        UnsupportedModelError: there is no such layer, or one has projections.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, RECURRENT)]
    if not layers:
        raise UnsupportedModelError(
            "The network has no LSTM or GRU layer whose states could be followed; take"
            " another method, such as integrated_gradients."
        )
    if any(layer.proj_size for layer in layers):
        raise UnsupportedModelError(
            "An LSTM layer with projections (proj_size) cannot be run step by step;"
            " take another method, such as integrated_gradients."
        )
    traces: list[Trace] = []
    before = [layer.__dict__.get("forward") for layer in layers]
    try:
        for layer in layers:
            layer.__dict__["forward"] = _Forward(layer, traces)
        yield traces
    finally:
        for layer, own in zip(layers, before, strict=True):
            del layer.__dict__["forward"]
            if own is not None:
                layer.__dict__["forward"] = own

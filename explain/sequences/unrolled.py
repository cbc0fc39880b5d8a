# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers run step by step with their own weights, every state in reach.

The gradient at the output of ``nn.LSTM`` is that of what is read of it alone, so it is
zero at all steps but the last where a classifier reads the last. The gradient of the
states that are handed from step to step flows through time (`explain.sequences.cells`).
cuDNN has no part in it, so that gradients can be had in eval mode.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from explain.errors import UnsupportedModelError
from explain.sequences.cells import Parts, Trace, run_through
from explain.sequences.recurrence import RECURRENT, layer_weights, turned_round

#: What a layer returns beside its output: (D L, N, H), a pair of them of an LSTM.
Ends = Tensor | tuple[Tensor, Tensor]


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
            packed = pack_padded_sequence(
                states, lengths, batch_first=True, enforce_sorted=False
            )
            return packed, ends
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
        rows = torch.arange(len(values), device=values.device)
        turned = turned_round(values.shape[1], lengths)
        ends: list[Parts] = []
        for depth in range(self.layer.num_layers):
            sides = []
            for suffix in ("", "_reverse")[: 2 if self.layer.bidirectional else 1]:
                places = turned if suffix else None
                trace = Trace(lengths, places)
                given = values if places is None else values[rows[:, None], places]
                weights = layer_weights(self.layer, depth, suffix)
                states = run_through(type(self.layer), given, weights, trace)
                self.traces.append(trace)
                ends.append(tuple(part[rows, lengths - 1] for part in states))
                hidden = states[0]
                sides.append(
                    hidden if places is None else hidden[rows[:, None], places]
                )
            values = torch.cat(sides, dim=2)
        hidden = torch.stack([end[0] for end in ends])
        if isinstance(self.layer, nn.GRU):
            return values, hidden
        return values, (hidden, torch.stack([end[1] for end in ends]))


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

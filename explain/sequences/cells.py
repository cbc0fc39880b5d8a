# SPDX-License-Identifier: Apache-2.0
"""LSTM and GRU cells run step by step, forward and back through time.

    LSTM  o, i, f = s(W x_t + b + U h + d);  g = tanh(W x_t + b + U h + d)
          c' = f c + i g;  h' = o tanh(c')
    GRU   r, z = s(W x_t + b + U h + d)
          n = tanh(W_n x_t + b_n + r (U_n h + d_n));  h' = n + z (h - n)

with s the logistic function, each part with its own rows of W, U, b and d. Going back,
the gradient at what a cell hands on after each step is noted: d y / d h, and d y / d c
of an LSTM, where c is what the next step takes it to be, not what h was made of.

The passes are written out, because recording some twenty operations a step costs more
than the operations do. What does not depend on the other steps is done for all steps
at once.

Source: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", with the forget gate
of Gers et al. 2000; Cho et al. 2014, "Learning Phrase Representations using RNN
Encoder-Decoder for Statistical Machine Translation", section 2.3; back through time:
Werbos 1990, "Backpropagation Through Time: What It Does and How to Do It".
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: One tensor for each part of a state: (h,) of a GRU, (h, c) of an LSTM.
Parts = tuple[Tensor, ...]


@dataclass(slots=True, eq=False)
class Trace:
    """What one layer went through in one direction.

    Attributes:
        lengths: Of the sequences, (N,) int64.
        turned: Where each step stands in the direction's own order, (N, T) int64;
            None forward in time.
        states: After each step, each part (N, T, H), in the direction's own order.
        slopes: d y / d state, alike; none before a pass back has come through here.
    """

    lengths: Tensor
    turned: Tensor | None
    states: Parts = field(default=())
    slopes: Parts = field(default=())

    def in_time(self, values: Tensor) -> Tensor:
        """Return values of steps, (N, T), in the order of time."""
        return values if self.turned is None else values.gather(1, self.turned)


def run_through(
    kind: type[nn.Module], values: Tensor, weights: list[Tensor], trace: Trace
) -> Parts:
    """Return the states after each step, which begin with zeros.

    Differentiable in the values; the weights are held fixed.

    Args:
        kind: `nn.LSTM` or `nn.GRU`.
        values: In the direction's own order.
        weights: Of input and state, and their biases if there are any.
        trace: Is told what happens.

    Shape: values (N, T, F) -> each part (N, T, H).
    """
    function: Any = _Lstm if issubclass(kind, nn.LSTM) else _Gru
    rows, size = weights[1].shape
    zero = weights[1].new_zeros(rows)
    biases = weights[2:] or [zero, zero]
    fixed = [weight.detach() for weight in (*weights[:2], *biases)]
    found = function.apply(values, *fixed, size, trace)
    trace.states = tuple(part.detach() for part in found)
    return tuple(found)


class _Lstm(torch.autograd.Function):
    """All steps of an LSTM."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        w_input: Tensor,
        w_state: Tensor,
        b_input: Tensor,
        b_state: Tensor,
        size: int,
        trace: Trace,
    ) -> Parts:
        """Return h and c, each (N, T, H)."""
        items, steps, _ = values.shape
        # The three gates come first, the output's at their head.
        order = torch.tensor([3, 0, 1, 2], device=values.device)

        def ordered(weight: Tensor) -> Tensor:
            return weight.view(4, size, -1)[order].view(4 * size, -1)

        w_input, w_state = ordered(w_input), ordered(w_state)
        bias = ordered(b_input + b_state)[:, 0]
        gates = _shares(values, w_input, bias)
        hidden = values.new_empty(steps + 1, items, size)
        cell = values.new_empty(steps + 1, items, size)
        hidden[0], cell[0] = 0, 0
        shown = values.new_empty(steps, items, size)
        across = w_state.T.contiguous()
        # Views of all steps are made at once, which spares the loop their cost.
        gated = gates[:, :, : 3 * size].unbind()
        out, opened, kept, new = _quarters(gates)
        h, c, seen, now = hidden.unbind(), cell.unbind(), shown.unbind(), gates.unbind()
        for step in range(steps):
            now[step].addmm_(h[step], across)
            gated[step].sigmoid_()
            new[step].tanh_()
            torch.mul(kept[step], c[step], out=c[step + 1])
            c[step + 1].addcmul_(opened[step], new[step])
            torch.tanh(c[step + 1], out=seen[step])
            torch.mul(out[step], seen[step], out=h[step + 1])
        ctx.save_for_backward(w_input, w_state, gates, cell, shown)
        ctx.trace = trace
        return hidden[1:].transpose(0, 1), cell[1:].transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_hidden: Tensor, from_cell: Tensor) -> Any:
        """Return the gradient at the values; the trace gets those at the states."""
        w_input, w_state, gates, cell, shown = ctx.saved_tensors
        steps, items, size = shown.shape
        out, opened, kept, new = gates.view(steps, items, 4, size).unbind(dim=2)
        through = out * (1 - shown * shown)
        slopes = torch.empty_like(gates).view(steps, items, 4, size)
        factors = torch.stack(
            [
                new * opened * (1 - opened),
                cell[:-1] * kept * (1 - kept),
                opened * (1 - new * new),
            ],
            dim=2,
        )
        of_out = shown * out * (1 - out)
        of_hidden, of_cell = _own(from_hidden), _own(from_cell)
        # Views of all steps are made at once, which spares the loop their cost.
        at_out, at_rest = slopes[:, :, 0].unbind(), slopes[:, :, 1:].unbind()
        at_all = slopes.flatten(2).unbind()
        dh, dc, f = of_hidden.unbind(), of_cell.unbind(), kept.unbind()
        outs, rest, inwards = of_out.unbind(), factors.unbind(), through.unbind()
        for step in reversed(range(steps)):
            inner = torch.addcmul(dc[step], dh[step], inwards[step])
            torch.mul(dh[step], outs[step], out=at_out[step])
            torch.mul(inner[:, None], rest[step], out=at_rest[step])
            if step:
                dh[step - 1].addmm_(at_all[step], w_state)
                dc[step - 1].addcmul_(inner, f[step])
        ctx.trace.slopes = (of_hidden.transpose(0, 1), of_cell.transpose(0, 1))
        return _at_values(slopes.flatten(2), w_input), *[None] * 6


class _Gru(torch.autograd.Function):
    """All steps of a GRU."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        w_input: Tensor,
        w_state: Tensor,
        b_input: Tensor,
        b_state: Tensor,
        size: int,
        trace: Trace,
    ) -> Parts:
        """Return h, (N, T, H)."""
        items, steps, _ = values.shape
        shares = _shares(values, w_input, b_input)
        hidden = values.new_empty(steps + 1, items, size)
        hidden[0] = 0
        recurrent = values.new_empty(steps, items, 3 * size)
        across = w_state.T.contiguous()
        both = 2 * size
        # Views of all steps are made at once, which spares the loop their cost.
        h, ahead = hidden.unbind(), recurrent.unbind()
        ahead_gates = recurrent[:, :, :both].unbind()
        ahead_new = recurrent[:, :, both:].unbind()
        gates, new = shares[:, :, :both].unbind(), shares[:, :, both:].unbind()
        reset, kept = shares[:, :, :size].unbind(), shares[:, :, size:both].unbind()
        for step in range(steps):
            torch.addmm(b_state, h[step], across, out=ahead[step])
            gates[step].add_(ahead_gates[step]).sigmoid_()
            new[step].addcmul_(reset[step], ahead_new[step]).tanh_()
            torch.lerp(new[step], h[step], kept[step], out=h[step + 1])
        ctx.save_for_backward(w_input, w_state, shares, recurrent, hidden)
        ctx.trace = trace
        return (hidden[1:].transpose(0, 1),)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_hidden: Tensor) -> Any:
        """Return the gradient at the values; the trace gets those at the states."""
        w_input, w_state, shares, recurrent, hidden = ctx.saved_tensors
        steps, items, triple = shares.shape
        size = triple // 3
        reset, kept, new = shares.view(steps, items, 3, size).unbind(dim=2)
        of_new = (1 - kept) * (1 - new * new)
        of_reset = of_new * recurrent[:, :, 2 * size :] * reset * (1 - reset)
        of_kept = (hidden[:-1] - new) * kept * (1 - kept)
        factors = torch.stack([of_reset, of_kept, of_new * reset], dim=2)
        of_hidden = _own(from_hidden)
        for step in reversed(range(1, steps)):
            here, before = of_hidden[step], of_hidden[step - 1]
            before.addcmul_(here, kept[step])
            before.addmm_((here[:, None] * factors[step]).flatten(1), w_state)
        slopes = of_hidden[:, :, None] * torch.stack([of_reset, of_kept, of_new], dim=2)
        ctx.trace.slopes = (of_hidden.transpose(0, 1),)
        return _at_values(slopes.flatten(2), w_input), *[None] * 6


def _quarters(gates: Tensor) -> list[tuple[Tensor, ...]]:
    """Return the four parts of each step's gates, (T, N, 4 H)."""
    return [part.unbind() for part in gates.chunk(4, dim=2)]


def _shares(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return what the inputs of all steps give, (T, N, rows), in memory of its own."""
    return nn.functional.linear(values.transpose(0, 1).contiguous(), weight, bias)


def _at_values(slopes: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient at the values, (N, T, F), from that at the shares."""
    return (slopes @ weight).transpose(0, 1)


def _own(gradient: Tensor) -> Tensor:
    """Return a gradient (N, T, H) as (T, N, H), in memory that may be written to."""
    return gradient.transpose(0, 1).clone(memory_format=torch.contiguous_format)

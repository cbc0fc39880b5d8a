# SPDX-License-Identifier: Apache-2.0
"""Gradient x hidden state over time, of cells that are run step by step.

    change:  map[t] = sum over units of (s_t - s_(t-1)) * d y / d s_t
    whole:   map[t] = sum over units of s_t * d y / d s_t

s_t is what the cell hands on after step t: h of a GRU, h and c of an LSTM, of each
layer and direction (backward in time, the step before t is t + 1). ``change`` is to
first order what the logit would lose if the step had been skipped; ``whole`` is what
all steps up to t have left in the state, which stays high long after the step that put
it there.

Source: Li 2025, "A Lightweight Explainability Framework for Neural Networks", section
on recurrent networks, for the product; the first-order term as in Ancona et al. 2018,
"Towards Better Understanding of Gradient-Based Attribution Methods", section 2.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.errors import InvalidParameterError, UnsupportedModelError
from explain.frozen import frozen
from explain.methods.input_forward import (
    InputForward,
    as_columns,
    input_forward,
    like_targets,
    spoiled,
)
from explain.methods.method import Attribution, chosen_targets
from explain.sequences.cells import Trace
from explain.sequences.choices import STEP
from explain.sequences.network import GatedSequences
from explain.sequences.unrolled import unrolled


class HiddenStateGradient:
    """Gradient x hidden state of one network of sequences."""

    name = "hidden_state_gradient"
    #: A pass step by step, and one back through it.
    passes = 10.0

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        share: str = "change",
    ) -> None:
        self._model = require_steps(self.name, model)
        self._share = share

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return each step's signed share.

        Each further target costs one more pass back through time.

        Shape: inputs (N, 1, 1, T) gates, targets (N,) or (N, T') int64 -> maps
        (N, 1, T).

        Raises:
            InvalidTargetError: a target class the network does not have.
            UnsupportedModelError: the network has no LSTM or GRU, or one that does not
                see the steps of the sequence, or no score depends on it.
        """
        with frozen(self._model), unrolled(self._model.network) as traces:
            forward = input_forward(self._model, inputs)
            classes = chosen_targets(forward.logits, targets)
            places = self._places(traces, inputs)
            columns = as_columns(classes).unbind(dim=1)
            maps, blank = [], []
            for number, column in enumerate(columns, start=1):
                _go_back(forward, column, traces, last=number == len(columns))
                maps.append(self._map(traces, places, inputs))
                blank.append(_blank(traces, places, len(inputs)))
        logits = forward.logits.detach().float()
        whole = spoiled(torch.stack(maps, dim=1), logits, classes)
        return Attribution(
            logits=logits,
            targets=classes,
            maps=like_targets(whole, classes),
            zero_gradient=like_targets(torch.stack(blank, dim=1), classes),
        )

    def _places(self, traces: list[Trace], inputs: Tensor) -> list[Tensor]:
        """Return which rows of the batch each trace is of.

        Raises:
            UnsupportedModelError: a layer does not see the steps of the sequences.
        """
        items = self._model.item_of_rows(len(inputs), inputs.device)
        parts = self._model.parts(items)
        calls = len(traces) // len(parts)
        of_each = [part for part in parts for _ in range(calls)]
        for trace, (rows, steps) in zip(traces, of_each, strict=True):
            count, seen = trace.states[0].shape[:2]
            if seen != steps or count != len(rows):
                raise UnsupportedModelError(
                    f"A recurrent layer sees {seen} steps where the sequences have"
                    f" {steps}, so that its states belong to no steps of theirs; take"
                    f" another method, such as integrated_gradients."
                )
        return [rows for rows, _ in of_each]

    def _map(self, traces: list[Trace], places: list[Tensor], inputs: Tensor) -> Tensor:
        """Return one target's maps, (N, 1, T) float32."""
        steps = self._model.steps
        maps = torch.zeros(len(inputs), steps, dtype=torch.float64).to(inputs.device)
        for trace, rows in zip(traces, places, strict=True):
            for part, slope in zip(trace.states, trace.slopes, strict=False):
                counted = part
                if self._share == "change":
                    zero = torch.zeros_like(part[:, :1])
                    counted = part - torch.cat([zero, part[:, :-1]], dim=1)
                shares = trace.in_time((counted * slope).sum(dim=2).double())
                place = torch.arange(shares.shape[1], device=shares.device)
                within = place < trace.lengths[:, None]
                maps[rows, : shares.shape[1]] += torch.where(within, shares, 0)
        return maps[:, None, : inputs.shape[3]].float()


def require_steps(method: str, model: nn.Module) -> GatedSequences:
    """Return the network, refusing one whose units are not steps.

    Raises:
        UnsupportedModelError: it is no network of sequences.
        InvalidParameterError: its units are not steps.
    """
    if not isinstance(model, GatedSequences):
        raise UnsupportedModelError(
            f"Method {method!r} explains sequences seen through gates only."
        )
    if model.per != STEP:
        raise InvalidParameterError(
            f"Method {method!r} tells steps apart, not features; set data.options.per"
            f" to step, or take another method, such as integrated_gradients."
        )
    return model


def _go_back(
    forward: InputForward, classes: Tensor, traces: list[Trace], *, last: bool
) -> None:
    """The traces know d logit[class] / d state.

    Raises:
        UnsupportedModelError: no score depends on a state.
    """
    for trace in traces:
        trace.slopes = ()
    forward.gradient(classes, last=last)
    if not any(trace.slopes for trace in traces):
        raise UnsupportedModelError(
            "The class scores do not depend on the state of a recurrent layer; take"
            " another method, such as integrated_gradients."
        )


def _blank(traces: list[Trace], places: list[Tensor], items: int) -> Tensor:
    """Say which rows have no gradient at any step, (N,) bool."""
    moved = torch.zeros(items, dtype=torch.bool, device=places[0].device)
    for trace, rows in zip(traces, places, strict=True):
        for slope in trace.slopes:
            moved[rows] |= (slope != 0).any(dim=2).any(dim=1)
    return ~moved

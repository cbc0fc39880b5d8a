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
    as_columns,
    input_forward,
    like_targets,
    spoiled,
)
from explain.methods.method import Attribution, chosen_targets
from explain.sequences.content import STEP
from explain.sequences.network import GatedSequences
from explain.sequences.unrolled import Trace, unrolled

#: One trace, stacked: (T, N, H) for h, and for c of an LSTM.
_Stacked = tuple[Tensor, ...]


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
            gradients = [
                _gradients(forward.logits, column, traces)
                for column in as_columns(classes).unbind(dim=1)
            ]
        with torch.no_grad():
            places = self._places(traces, inputs)
            maps = torch.stack(
                [self._map(traces, found, places, inputs) for found in gradients], dim=1
            )
            blank = torch.stack([_blank(found, places) for found in gradients], dim=1)
            logits = forward.logits.detach().float()
            return Attribution(
                logits=logits,
                targets=classes,
                maps=like_targets(spoiled(maps, logits, classes), classes),
                zero_gradient=like_targets(blank, classes),
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
            if len(trace.states) != steps or len(trace.lengths) != len(rows):
                raise UnsupportedModelError(
                    f"A recurrent layer sees {len(trace.states)} steps where the"
                    f" sequences have {steps}, so that its states belong to no steps of"
                    f" theirs; take another method, such as integrated_gradients."
                )
        return [rows for rows, _ in of_each]

    def _map(
        self,
        traces: list[Trace],
        gradients: list[_Stacked],
        places: list[Tensor],
        inputs: Tensor,
    ) -> Tensor:
        """Return one target's maps, (N, 1, T) float32."""
        steps = self._model.steps
        maps = torch.zeros(len(inputs), steps, dtype=torch.float64).to(inputs.device)
        for trace, gradient, rows in zip(traces, gradients, places, strict=True):
            shares = sum(
                (part * slope).sum(dim=2).double()
                for part, slope in zip(self._counted(trace), gradient, strict=True)
            )
            places_in = torch.arange(len(trace.states), device=inputs.device)
            within = places_in < trace.lengths[:, None]
            maps[rows, : len(trace.states)] += torch.where(within, shares.T, 0)
        return maps[:, None, : inputs.shape[3]].float()

    def _counted(self, trace: Trace) -> _Stacked:
        """Return what each step answers for: what it changed, or all that is there."""
        states = _stacked(trace.states)
        if self._share == "whole":
            return states
        changes = []
        for part, first in zip(states, trace.first, strict=True):
            if trace.backward:
                before = torch.cat([part[1:], first[None]])
            else:
                before = torch.cat([first[None], part[:-1]])
            changes.append(part - before)
        return tuple(changes)


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


def _gradients(logits: Tensor, classes: Tensor, traces: list[Trace]) -> list[_Stacked]:
    """Return d logit[class] / d state for each trace.

    Raises:
        UnsupportedModelError: no score depends on a state.
    """
    flat = [part for trace in traces for state in trace.states for part in state]
    found: tuple[Tensor | None, ...] = (None,) * len(flat)
    if logits.requires_grad:
        with torch.inference_mode(mode=False), torch.enable_grad():
            score = logits.gather(1, classes[:, None].clone()).sum()
            found = torch.autograd.grad(
                score, flat, allow_unused=True, retain_graph=True
            )
    if all(gradient is None for gradient in found):
        raise UnsupportedModelError(
            "The class scores do not depend on the state of a recurrent layer; take"
            " another method, such as integrated_gradients."
        )
    whole = iter(
        torch.zeros_like(part) if gradient is None else gradient
        for part, gradient in zip(flat, found, strict=True)
    )
    return [
        _stacked([tuple(next(whole) for _ in state) for state in trace.states])
        for trace in traces
    ]


def _stacked(states: list[tuple[Tensor, ...]]) -> _Stacked:
    """Return the states as one tensor for each of their parts, without their graph."""
    return tuple(torch.stack(part).detach() for part in zip(*states, strict=True))


def _blank(gradients: list[_Stacked], places: list[Tensor]) -> Tensor:
    """Say which rows have no gradient at any step, (N,) bool."""
    rows = max(int(place.max()) for place in places) + 1
    moved = torch.zeros(rows, dtype=torch.bool, device=gradients[0][0].device)
    for gradient, place in zip(gradients, places, strict=True):
        for part in gradient:
            moved[place] |= (part != 0).any(dim=2).any(dim=0)
    return ~moved

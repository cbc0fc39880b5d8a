# SPDX-License-Identifier: Apache-2.0
"""Gradient x hidden state over time, and occlusion in two levels."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from explain.errors import InvalidParameterError, UnsupportedModelError
from explain.methods import create_method
from explain.sequences.network import GatedSequences
from explain.sequences.unrolled import unrolled
from tests.support.sequences import (
    FEATURES,
    contents,
    gated,
    latch,
    marked_at,
    network,
    tensor,
)

NAME = "hidden_state_gradient"


def maps_of(behind: GatedSequences, **parameters: Any) -> Tensor:
    """Return the maps of the predicted classes."""
    method = create_method(NAME, behind, **parameters)
    return method.explain(behind.open_gates(), None).maps


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_step_by_step_equals_the_layer(
    kind: type[nn.LSTM] | type[nn.GRU],
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
) -> None:
    """Outputs and ends are the layer's own to 1e-6, packed ones too."""
    torch.manual_seed(0)
    layer = kind(
        3, 5, 2, bias=bias, bidirectional=bidirectional, batch_first=batch_first
    ).eval()
    values = torch.randn((4, 7, 3) if batch_first else (7, 4, 3))
    packed = pack_padded_sequence(
        values,
        torch.tensor([7, 1, 3, 7]),
        batch_first=batch_first,
        enforce_sorted=False,
    )
    plain = layer(values), layer(packed)
    with unrolled(layer) as traces:
        slow = layer(values), layer(packed)
    assert len(traces) == 2 * 2 * (2 if bidirectional else 1)
    assert "forward" not in layer.__dict__
    torch.testing.assert_close(slow[0], plain[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(slow[1][1], plain[1][1], atol=1e-6, rtol=0)
    both = [pad_packed_sequence(one[1][0]) for one in (slow, plain)]
    torch.testing.assert_close(both[0], both[1], atol=1e-6, rtol=0)


def test_the_layer_is_given_back_after_an_error() -> None:
    """Whatever happens within, the network runs as before."""
    model = network()
    with pytest.raises(ZeroDivisionError), unrolled(model):
        raise ZeroDivisionError
    assert "forward" not in model.recurrent.__dict__


def slow_maps(model: Any, item: Tensor, target: int) -> tuple[list[float], list[float]]:
    """Return changes and wholes by running on from each step's state as a leaf."""
    layer = model.recurrent
    cell: Any = nn.LSTMCell if isinstance(layer, nn.LSTM) else nn.GRUCell
    cell = cell(layer.input_size, layer.hidden_size)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({name: getattr(layer, f"{name}_l0") for name in names})
    cell, head = cell.double(), model.head.double()
    steps = item.double().unbind(dim=1)
    zero = torch.zeros(1, layer.hidden_size, dtype=torch.float64)
    state: Any = (zero, zero) if isinstance(layer, nn.LSTM) else (zero,)

    def step(values: Tensor, before: Any) -> Any:
        after = cell(values, before if len(before) == 2 else before[0])
        return after if len(before) == 2 else (after,)

    changes, wholes = [], []
    for place, values in enumerate(steps):
        after = step(values, state)
        leaves = tuple(part.detach().requires_grad_() for part in after)
        ahead: Any = leaves
        for more in steps[place + 1 :]:
            ahead = step(more, ahead)
        score = head(ahead[0])[0, target]
        slopes = torch.autograd.grad(score, leaves, allow_unused=True)
        pairs = [
            (new.detach(), old, torch.zeros_like(new) if slope is None else slope)
            for new, old, slope in zip(leaves, state, slopes, strict=True)
        ]
        changes.append(sum(float(((n - o) * s).sum()) for n, o, s in pairs))
        wholes.append(sum(float((n * s).sum()) for n, _, s in pairs))
        state = tuple(part.detach() for part in after)
    head.float()
    return changes, wholes


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_map_is_the_product_with_the_gradient_through_time(kind: str) -> None:
    """It equals what running on from each step's state says, in float64."""
    model = network(kind)
    item = contents(9)[0]
    behind = gated(model, [item])
    method = create_method(NAME, behind)
    found = method.explain(behind.open_gates(), None)
    whole = maps_of(behind, share="whole")
    changes, wholes = slow_maps(model, tensor(item), int(found.targets[0]))
    assert found.maps[0, 0].tolist() == pytest.approx(changes, abs=1e-5)
    assert whole[0, 0].tolist() == pytest.approx(wholes, abs=1e-5)


def test_every_step_counts_where_the_output_has_a_gradient_at_the_last_alone() -> None:
    """The gradient at the layer's output is that of what is read of it."""
    model = network()
    item = contents(12)[0]
    states, _ = model.recurrent(tensor(item))
    states = states.detach().requires_grad_()
    model.head(states[:, -1])[0].max().backward()
    assert states.grad is not None
    assert states.grad[0].abs().sum(dim=1).nonzero().flatten().tolist() == [11]
    for share in ("whole", "change"):
        assert bool((maps_of(gated(model, [item]), share=share) != 0).all())


@pytest.mark.parametrize("step", [0, 4, 9])
def test_an_lstm_that_reads_one_step_points_at_it(step: int) -> None:
    """All importance is at that step; with share whole it stays high behind it."""
    behind = gated(latch(), [marked_at(step, 10)])
    found = maps_of(behind)[0, 0]
    assert int(found.argmax()) == step
    assert float(found[step] / found.abs().sum()) > 0.999
    whole = maps_of(behind, share="whole")[0, 0]
    assert bool((whole[step:] > 0.1).all())
    assert bool((whole[:step].abs() < 1e-6).all())


def test_a_step_backward_in_time_is_found_too() -> None:
    """In a BiLSTM the state before a step is that of the step after it."""
    model = network("bilstm")
    item = contents(8)[0]
    turned = type(item).of(item.values[::-1].copy())
    # The two directions change places, in the layer and in what the head reads.
    other = network("bilstm")
    state = dict(model.state_dict())
    for name in list(state):
        if name.startswith("recurrent") and not name.endswith("_reverse"):
            ahead, behind = state[name], state[f"{name}_reverse"]
            state[name], state[f"{name}_reverse"] = behind, ahead
    state["head.weight"] = torch.cat(state["head.weight"].chunk(2, dim=1)[::-1], dim=1)
    other.load_state_dict(state)
    found = maps_of(gated(model, [item]))[0, 0]
    mirrored = maps_of(gated(other, [turned]))[0, 0]
    torch.testing.assert_close(found, mirrored.flip(0), atol=1e-6, rtol=1e-4)


def test_several_targets_share_the_forward_pass() -> None:
    """Each target's map is that of the target alone."""
    behind = gated(network("gru", layers=2), contents(6, 4))
    method = create_method(NAME, behind)
    targets = torch.tensor([[0, 2], [3, 1]])
    found = method.explain(behind.open_gates(), targets)
    assert found.maps.shape == (2, 2, 1, 6)
    for place in range(2):
        alone = method.explain(behind.open_gates(), targets[:, place])
        torch.testing.assert_close(found.maps[:, place], alone.maps)
    assert not found.zero_gradient.any()


class Strided(nn.Module):
    """A network whose recurrent layer sees every second step."""

    def __init__(self, *, state: bool = False) -> None:
        super().__init__()
        self.layer = nn.LSTM(FEATURES, 4, batch_first=True)
        self.head = nn.Linear(4, 2)
        self.state = state

    def forward(self, values: Tensor) -> Tensor:
        """Return the logits."""
        zero = values.new_zeros(1, len(values), 4)
        first = (zero, zero) if self.state else None
        states, _ = self.layer(values if self.state else values[:, ::2], first)
        logits: Tensor = self.head(states[:, -1])
        return logits


class Unread(Strided):
    """A network that never looks at its recurrent layer's states."""

    def forward(self, values: Tensor) -> Tensor:
        """Return logits of the inputs alone."""
        self.layer(values)
        return values.sum(dim=1)[:, :2]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(6 * FEATURES, 2)), "no LSTM or GRU"),
        (Strided(), "sees 3 steps where the sequences have 6"),
        (Strided(state=True), "a state to begin with"),
        (Unread(), "do not depend on the state"),
    ],
)
def test_networks_without_followable_states_are_refused(
    model: nn.Module, said: str
) -> None:
    """One sentence says why, and which method would do."""
    behind = gated(model.eval(), contents(6))
    with pytest.raises(UnsupportedModelError, match=said):
        maps_of(behind)


def test_layers_with_projections_are_refused() -> None:
    """Their cell is another one."""
    model = nn.LSTM(3, 5, proj_size=2)
    with pytest.raises(UnsupportedModelError, match="proj_size"), unrolled(model):
        pass


@pytest.mark.parametrize("name", [NAME, "hierarchical_occlusion"])
def test_methods_over_steps_refuse_other_units(name: str) -> None:
    """They tell steps apart, nothing else."""
    behind = gated(network(), contents(6, per="both"))
    with pytest.raises(InvalidParameterError, match=r"data\.options\.per"):
        create_method(name, behind)
    with pytest.raises(UnsupportedModelError, match="sequences"):
        create_method(name, network())


def falls(model: nn.Module, item: Any, target: int, windows: Any) -> list[float]:
    """Return the falls of the probability without windows of steps, one by one."""
    found = []
    with torch.no_grad():
        whole = model(tensor(item)).double().softmax(dim=1)[0, target]
        for window in windows:
            without = tensor(item)
            without[0, window] = 0
            left = model(without).double().softmax(dim=1)[0, target]
            found.append(float(whole - left))
    return found


@pytest.mark.parametrize("kind", ["lstm", "bilstm"])
def test_segments_share_out_what_they_are_worth(kind: str) -> None:
    """A segment's steps sum to its fall; only the best is looked at step by step."""
    model = network(kind)
    item = contents(11)[0]
    behind = gated(model, [item])
    method = create_method("hierarchical_occlusion", behind, segment=4, refine=0.3)
    found = method.explain(behind.open_gates(), None)
    target = int(found.targets[0])
    windows = [range(4), range(4, 8), range(8, 11)]
    coarse = falls(model, item, target, [list(window) for window in windows])
    best = max(range(3), key=lambda place: coarse[place])
    for place, window in enumerate(windows):
        values = found.maps[0, 0, list(window)].double()
        assert float(values.sum()) == pytest.approx(coarse[place], abs=1e-6)
        if place != best:
            assert float(values.max() - values.min()) == pytest.approx(0, abs=1e-7)
            continue
        fine = falls(model, item, target, [[step] for step in window])
        towards = [max(0.0, one if coarse[best] > 0 else -one) for one in fine]
        shares = [coarse[best] * one / sum(towards) for one in towards]
        assert values.tolist() == pytest.approx(shares, abs=1e-6)


def test_two_levels_find_the_step_in_fewer_passes() -> None:
    """Of 100 steps the one that is read is found by asking about 31 times."""
    model = latch()
    item = marked_at(63, 100)
    behind = gated(model, [item])
    asked: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, given: asked.append(len(given[0]))
    )
    method = create_method("hierarchical_occlusion", behind, refine=0.2)
    found = method.explain(behind.open_gates(), None).maps[0, 0]
    handle.remove()
    assert int(found.argmax()) == 63
    assert float(found[63] / found.abs().sum()) > 0.999
    assert sum(asked) == 1 + 10 + 2 * 10
    assert method.passes == 31


def test_segments_of_one_step_are_plain_occlusion() -> None:
    """Nothing is left to share out."""
    model = network()
    items = contents(6, 6)
    behind = gated(model, items)
    ours = create_method("hierarchical_occlusion", behind, segment=1)
    plain = create_method("occlusion", behind, window=1, stride=1)
    gates = behind.open_gates()
    torch.testing.assert_close(
        ours.explain(gates, None).maps, plain.explain(gates, None).maps
    )

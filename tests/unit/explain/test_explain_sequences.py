# SPDX-License-Identifier: Apache-2.0
"""Networks of sequences behind gates, and the generic methods on them."""

import math
import warnings
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from explain.errors import InvalidInputError
from explain.maps import quantise
from explain.methods import create_method
from explain.sequences.choices import PER
from explain.sequences.content import SequenceContent
from explain.sequences.recurrence import (
    differentiable,
    recurrent_states,
    turned_round,
    without_cudnn,
)
from tests.support.sequences import CLASSES, FEATURES, contents, gated, network, tensor

KINDS = ("lstm", "gru", "bilstm")
LENGTHS = (9, 1, 4, 9, 6)


@pytest.fixture(scope="module")
def captum_attr() -> Any:
    """The attribution methods of captum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum import attr
    return attr


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_states_without_packing_equal_packed_ones(
    kind: type[nn.LSTM] | type[nn.GRU], layers: int, bidirectional: bool
) -> None:
    """Filled-up batches give what torch gives of packed ones, to 1e-6."""
    torch.manual_seed(0)
    layer = kind(3, 5, layers, batch_first=True, bidirectional=bidirectional).eval()
    values, lengths = torch.randn(5, 9, 3), torch.tensor(LENGTHS)
    packed = pack_padded_sequence(
        values, lengths, batch_first=True, enforce_sorted=False
    )
    states, ends = layer(packed)
    expected, _ = pad_packed_sequence(states, batch_first=True)
    hidden = ends[0] if isinstance(ends, tuple) else ends
    directions = 2 if bidirectional else 1
    last = hidden[-directions:].transpose(0, 1).flatten(1)
    found, found_last = recurrent_states(layer, values, lengths)
    inside = torch.arange(9) < lengths[:, None]
    torch.testing.assert_close(found * inside[:, :, None], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found_last, last, atol=1e-6, rtol=0)


def test_turning_round_leaves_what_is_behind() -> None:
    """Each sequence is turned within its own length."""
    assert turned_round(5, torch.tensor([3, 5, 1])).tolist() == [
        [2, 1, 0, 3, 4],
        [4, 3, 2, 1, 0],
        [0, 1, 2, 3, 4],
    ]


@pytest.mark.parametrize("per", PER)
def test_open_gates_show_the_item_and_closed_ones_the_baseline(per: str) -> None:
    """At both ends, exactly; between them on the straight line."""
    model = network()
    items = contents(6, 6, per=per, baseline="mean")
    behind = gated(model, items)
    inputs = torch.stack([torch.from_numpy(one.values) for one in items])
    means = inputs.mean(dim=1, keepdim=True).expand_as(inputs)
    gates = behind.open_gates()
    assert gates.shape[2:] == items[0].units
    for share in (1.0, 0.0, 0.25):
        expected = model(means + share * (inputs - means))
        torch.testing.assert_close(behind(gates * share), expected)
    shown = behind._shown(gates, torch.tensor([0, 1]))[:, :6]
    assert torch.equal(shown, inputs)


def test_a_gate_closes_its_unit_alone() -> None:
    """A step with all features, a feature at all steps, or one number."""
    model = network()
    (item,) = contents(5)
    whole = tensor(item)
    for per, place, closed in (
        ("step", (0, 2), (slice(None), 2, slice(None))),
        ("feature", (1, 0), (slice(None), slice(None), 1)),
        ("both", (1, 2), (slice(None), 2, 1)),
    ):
        one = SequenceContent.of(item.values, per=per)
        behind = gated(model, [one])
        gates = behind.open_gates()
        gates[0, 0, place[0], place[1]] = 0
        without = whole.clone()
        without[closed] = 0
        torch.testing.assert_close(behind(gates), model(without))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["gradient_x_input", "hidden_state_gradient"])
def test_neighbours_change_no_bit(kind: str, method: str) -> None:
    """An item at its place has the same stored bytes, however long its neighbours."""
    model = network(kind, layers=2)
    first = contents(11, seed=5)[0]
    stored = []
    for seed, others in ((1, (3, 7, 2)), (2, (40, 1, 23)), (3, (64, 64, 5))):
        one, two, three = contents(*others, seed=seed)
        behind = gated(model, [one, two, first, three])
        found = create_method(method, behind).explain(behind.open_gates(), None)
        kept = quantise(found.maps[2:3, :, :11])
        stored.append((kept.values.numpy().tobytes(), kept.scale.numpy().tobytes()))
        assert not found.maps[2, :, 11:].any()
        stored[-1] += (found.logits[2].numpy().tobytes(),)
    assert stored[0] == stored[1] == stored[2]


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_in_a_batch_is_as_it_is_alone(kind: str) -> None:
    """Logits and maps agree with those of a batch of one, to rounding."""
    model = network(kind)
    items = contents(*LENGTHS)
    behind = gated(model, items)
    found = create_method("gradient_x_input", behind).explain(behind.open_gates(), None)
    for place, item in enumerate(items):
        alone = gated(model, [item])
        single = create_method("gradient_x_input", alone).explain(
            alone.open_gates(), found.targets[place : place + 1]
        )
        steps = len(item.values)
        torch.testing.assert_close(found.logits[place], single.logits[0])
        torch.testing.assert_close(
            found.maps[place, :, :steps], single.maps[0], atol=1e-6, rtol=1e-4
        )


class Packing(nn.Module):
    """A network that packs its sequences, as many do."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU] = nn.LSTM) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = kind(FEATURES, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits."""
        packed = pack_padded_sequence(
            values, lengths, batch_first=True, enforce_sorted=False
        )
        _, ends = self.layer(packed)
        hidden = ends[0] if isinstance(ends, tuple) else ends
        logits: Tensor = self.head(torch.cat([hidden[0], hidden[1]], dim=1))
        return logits


class Plain(nn.Module):
    """A network that knows nothing of lengths."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer = nn.GRU(FEATURES, 6, batch_first=True)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, values: Tensor) -> Tensor:
        """Return the logits."""
        states, _ = self.layer(values)
        logits: Tensor = self.head(states.mean(dim=1))
        return logits


@pytest.mark.parametrize("model", [Packing(), Packing(nn.GRU), Plain()])
def test_networks_of_others_see_no_filling(model: nn.Module) -> None:
    """One that packs, and one that cannot, judge an item as they judge it alone."""
    model.eval()
    items = contents(*LENGTHS)
    behind = gated(model, items)
    both = behind.open_gates().repeat_interleave(2, dim=0)
    found = behind(both)
    for place, item in enumerate(items):
        if isinstance(model, Plain):
            alone = model(tensor(item))
        else:
            alone = model(tensor(item), torch.tensor([len(item.values)]))
        for copy in found[2 * place : 2 * place + 2]:
            torch.testing.assert_close(copy, alone[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_x_input_equals_captum(kind: str, captum_attr: Any) -> None:
    """Captum's product at the input, summed over the features of a step."""
    model = network(kind)
    items = contents(8, 8)
    inputs = torch.cat([tensor(item) for item in items])
    behind = gated(model, items)
    found = create_method("gradient_x_input", behind).explain(behind.open_gates(), None)
    expected = captum_attr.InputXGradient(model).attribute(
        inputs.clone().requires_grad_(), target=found.targets
    )
    torch.testing.assert_close(found.maps[:, 0], expected.sum(dim=2).detach())


@pytest.mark.parametrize("per", PER)
def test_integrated_gradients_equal_captum_and_are_complete(
    per: str, captum_attr: Any
) -> None:
    """They are captum's, and sum to the change of the logit, to 1e-4."""
    model = network("gru")
    items = contents(8, 8, per=per)
    inputs = torch.cat([tensor(item) for item in items])
    behind = gated(model, items)
    method = create_method("integrated_gradients", behind, steps=50)
    found = method.explain(behind.open_gates(), None)
    expected = captum_attr.IntegratedGradients(model).attribute(
        inputs, baselines=0 * inputs, target=found.targets, n_steps=50
    )
    summed = {
        "step": expected.sum(dim=2)[:, None],
        "feature": expected.sum(dim=1)[:, :, None],
        "both": expected.transpose(1, 2),
    }[per]
    torch.testing.assert_close(found.maps, summed.float(), atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        change = (model(inputs) - model(0 * inputs)).gather(1, found.targets[:, None])
    torch.testing.assert_close(
        found.maps.flatten(1).sum(dim=1), change[:, 0], atol=1e-4, rtol=1e-4
    )


def test_occlusion_in_time_is_step_by_step() -> None:
    """Each value is the fall of the probability without that step."""
    model = network()
    (item,) = contents(7)
    behind = gated(model, [item])
    method = create_method("occlusion", behind, window=1, stride=1)
    found = method.explain(behind.open_gates(), None)
    with torch.no_grad():
        whole = model(tensor(item)).double().softmax(dim=1)[0, found.targets[0]]
        for step in range(7):
            without = tensor(item)
            without[0, step] = 0
            left = model(without).double().softmax(dim=1)[0, found.targets[0]]
            assert float(found.maps[0, 0, step]) == pytest.approx(
                float(whole - left), abs=1e-6
            )


def test_kernelshap_over_steps_is_exact() -> None:
    """With all coalitions asked it is Shapley's own sum over them."""
    model = network()
    (item,) = contents(5)
    behind = gated(model, [item])
    method = create_method("kernelshap", behind, samples=64, segmentation="units")
    found = method.explain(behind.open_gates(), None)
    target = int(found.targets[0])

    def score(steps: tuple[int, ...]) -> float:
        gates = torch.zeros(1, 1, 1, 5)
        gates[..., list(steps)] = 1
        with torch.no_grad():
            return float(behind(gates)[0, target])

    for step in range(5):
        others = [place for place in range(5) if place != step]
        value = 0.0
        for size in range(5):
            weight = math.factorial(size) * math.factorial(4 - size) / math.factorial(5)
            for some in combinations(others, size):
                value += weight * (score((*some, step)) - score(some))
        assert float(found.maps[0, 0, step]) == pytest.approx(value, abs=1e-5)


def test_cudnn_is_left_out_around_recurrent_layers_alone() -> None:
    """The switch is off in them, on elsewhere, and back after an error."""
    seen: list[tuple[str, bool]] = []

    def note(module: nn.Module, *_: object) -> None:
        seen.append((type(module).__name__, torch.backends.cudnn.enabled))

    model = Packing().eval()
    handles = [one.register_forward_pre_hook(note) for one in model.children()]
    before = torch.backends.cudnn.enabled
    with without_cudnn(model):
        # Registered later, so that it runs after the switch.
        handles.append(model.layer.register_forward_pre_hook(note))
        model(torch.randn(2, 4, FEATURES), torch.tensor([4, 2]))
        assert torch.backends.cudnn.enabled == before
    assert seen[1:] == [("LSTM", False), ("Linear", before)]
    with pytest.raises(RuntimeError), without_cudnn(model):
        model(torch.randn(2, 4, FEATURES + 1), torch.tensor([4, 2]))
    assert torch.backends.cudnn.enabled == before
    with without_cudnn(model.layer):
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled == before
    for handle in handles:
        handle.remove()
    hooks = [one._forward_pre_hooks or one._forward_hooks for one in model.modules()]
    assert not any(hooks)
    with differentiable(model, torch.randn(1).requires_grad_()):
        assert torch.backends.cudnn.enabled == before


def test_sequences_of_one_batch_have_the_same_features() -> None:
    """Others cannot go in together."""
    with pytest.raises(InvalidInputError, match="same features"):
        gated(network(), [*contents(3), *contents(3, features=2)])


def test_a_sequence_of_one_step_has_one_unit() -> None:
    """It is explained like any other; what is to be ranked there is another matter."""
    behind = gated(network(), contents(1))
    found = create_method("gradient_x_input", behind).explain(behind.open_gates(), None)
    assert found.maps.shape == (1, 1, 1)
    assert np.isfinite(found.maps.numpy()).all()

# SPDX-License-Identifier: Apache-2.0
"""Networks are kept by what they are, within a budget, and compiled around a layer."""

import copy

import pytest
import torch
from torch import nn

from explain.architectures import resolve_layer
from explain.frozen import frozen
from explain.methods import create_method
from pipeline.errors import ModelError
from pipeline.networks import (
    Network,
    NetworkCache,
    NetworkKey,
    compile_around,
    compute_in_bfloat16,
    network_bytes,
)

CPU = torch.device("cpu")


def _key(name: str, dtype: str = "float32") -> NetworkKey:
    return NetworkKey(
        sha256=name, source="test", arguments=(), device="cpu", dtype=dtype
    )


def _of(megabytes: float) -> Network:
    return Network(module=nn.Linear(int(megabytes * 250_000), 1, bias=False))


def test_parameters_and_buffers_are_counted() -> None:
    """A network's size is that of its parameters and buffers in bytes."""
    assert network_bytes(nn.BatchNorm1d(10)) == 4 * 40 + 8


def test_a_network_is_loaded_once_for_a_key() -> None:
    """The same key gives the same network; another type is another network."""
    cache = NetworkCache(100, CPU)
    first = cache.get(_key("a"), lambda: _of(1))
    assert cache.get(_key("a"), lambda: _of(1)) is first
    assert cache.get(_key("a", "bfloat16"), lambda: _of(1)) is not first


def test_those_used_longest_ago_go_first() -> None:
    """Above the budget the networks that were not used lately are dropped."""
    cache = NetworkCache(3, CPU)
    first = cache.get(_key("a"), lambda: _of(1))
    second = cache.get(_key("b"), lambda: _of(1))
    cache.touch(first.module)
    third = cache.get(_key("c"), lambda: _of(1.5))
    kept = [cache.holds(each.module) for each in (first, second, third)]
    assert kept == [True, False, True]


def test_one_network_is_kept_whatever_its_size() -> None:
    """A network larger than the budget is usable, and goes for the next one."""
    cache = NetworkCache(0, CPU)
    first = cache.get(_key("a"), lambda: _of(1))
    assert cache.holds(first.module)
    second = cache.get(_key("b"), lambda: _of(1))
    assert not cache.holds(first.module)
    assert cache.holds(second.module)


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.body(self.stem(inputs)).mean(dim=(2, 3)))
        return scores


def test_a_copy_of_a_network_in_bfloat16_computes_with_its_own_weights() -> None:
    """The sanity gate draws a copy's weights anew, and must see the difference."""
    torch.manual_seed(0)
    network, inputs = _Small(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        exact = network(inputs)
        compute_in_bfloat16(network, "cpu", compiled=False)
        before = network(inputs)
        again = copy.deepcopy(network)
        assert torch.equal(again(inputs), before)
        for weights in again.parameters():
            weights.zero_()
        assert not again(inputs).any()
        assert torch.equal(network(inputs), before)
    assert before.dtype == torch.float32
    assert not torch.equal(before, exact)
    assert torch.allclose(before, exact, atol=0.02)


@pytest.mark.filterwarnings("ignore")  # of torch's compiler, about itself
@pytest.mark.timeout(300)
def test_a_compiled_network_is_tapped_like_a_plain_one() -> None:
    """Plain passes before and between do not make compiled code lose the tap."""
    torch.manual_seed(0)
    network, inputs = _Small(), torch.rand(2, 3, 16, 16)
    layer = resolve_layer(network, "body", inputs[:1])
    with frozen(network):
        expected = create_method("gradcam", network, layer).explain(inputs, None)
        with torch.no_grad():
            scores = network(inputs)
        # What a compiler makes of the parts is its matter; which parts it gets is ours.
        compile_around(network, "body", backend="aot_eager")
        with pytest.raises(ModelError, match="cannot be copied"):
            copy.deepcopy(network)
        with torch.no_grad():
            assert torch.allclose(network(inputs), scores, atol=1e-5)
        for _ in range(2):
            found = create_method("gradcam", network, layer).explain(inputs, None)
            assert torch.allclose(found.maps, expected.maps, atol=1e-5)
            with torch.no_grad():
                network(inputs)

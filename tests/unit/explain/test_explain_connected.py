# SPDX-License-Identifier: Apache-2.0
"""The policy that keeps one connected piece."""

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

from explain.errors import InvalidInputError, MissingContextError
from explain.numpy_maps import kept_count
from explain.thresholds import ThresholdContext, create_policy
from explain.thresholds.policy import ThresholdResult


def _path(units: int) -> Tensor:
    places = torch.arange(units)
    return (places[:, None] - places[None]).abs() == 1


def _kept(values: list[float], keep: float, touching: Tensor) -> ThresholdResult:
    maps = torch.tensor([[values]], dtype=torch.float32)
    context = ThresholdContext(neighbours=touching)
    return create_policy("connected", keep=keep).apply(maps, context)


def test_the_highest_unit_and_what_grows_from_it() -> None:
    """A high unit beyond a gap of zero is left out; a low bridge is taken."""
    found = _kept([9, 0, 8, 1, 5, 6], 0.5, _path(6))
    assert found.mask[0, 0].tolist() == [True, False, False, False, False, False]
    assert found.status == ["insufficient_support"]
    found = _kept([2, 0.5, 8, 1, 5, 6], 0.5, _path(6))
    # 8 and 1 touch; past 1, 5 is higher than 0.5.
    assert found.mask[0, 0].tolist() == [False, False, True, True, True, False]
    assert found.status == ["ok"]
    assert found.kept.tolist() == [3]
    assert found.requested.tolist() == [0.5]
    assert found.energy_retained.tolist() == pytest.approx([14 / 22.5])
    assert found.cut.tolist() == [1]


def test_equal_values_by_lowest_index() -> None:
    """So that the mask is the same wherever it is made."""
    star = torch.zeros(4, 4, dtype=torch.bool)
    star[0, 1:] = star[1:, 0] = True
    found = _kept([2, 1, 1, 1], 0.5, star)
    assert found.mask[0, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("values", "status"),
    [([1.0, 1.0, 1.0], "constant_map"), ([float("nan"), 1.0, 2.0], "non_finite")],
)
def test_unusable_maps_keep_nothing(values: list[float], status: str) -> None:
    """As with every policy."""
    found = _kept(values, 0.5, _path(3))
    assert not found.mask.any()
    assert found.status == [status]


def test_negative_units_are_never_kept() -> None:
    """Evidence against the class joins nothing."""
    found = _kept([3, -1, 2], 1.0, _path(3))
    assert found.mask[0, 0].tolist() == [True, False, False]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_kept_grows_as_defined(seed: int) -> None:
    """One piece: each unit is the highest of all that touch the ones before."""
    draws = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(25, 0.15, seed=seed)
    touching = torch.from_numpy(nx.to_numpy_array(graph) > 0)
    values = draws.integers(0, 9, 25).astype(float).tolist()
    keep = float(draws.choice([0.1, 0.3, 0.6]))
    expected = {int(np.argmax(values))}
    while len(expected) < kept_count(keep, 25):
        offered = {
            other
            for unit in expected
            for other in graph.neighbors(unit)
            if other not in expected and values[other] > 0
        }
        if not offered:
            break
        expected.add(min(offered, key=lambda unit: (-values[unit], unit)))
    found = _kept(values, keep, touching)
    kept = set(np.flatnonzero(found.mask[0, 0].numpy()).tolist())
    assert kept == expected
    assert nx.is_connected(graph.subgraph(kept))


def test_who_does_not_say_what_touches_is_told() -> None:
    """One sentence, by name."""
    policy = create_policy("connected")
    with pytest.raises(MissingContextError, match="neighbours"):
        policy.apply(torch.rand(1, 1, 4))
    with pytest.raises(InvalidInputError, match="one item at a time"):
        policy.apply(torch.rand(2, 1, 4), ThresholdContext(neighbours=_path(4)))
    with pytest.raises(InvalidInputError, match="one item at a time"):
        policy.apply(torch.rand(1, 1, 4), ThresholdContext(neighbours=_path(3)))

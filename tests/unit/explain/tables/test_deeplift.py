# SPDX-License-Identifier: Apache-2.0
"""DeepLIFT against captum's, against hands, and on networks that it must refuse."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.errors import UnsupportedModelError
from explain.tables.deeplift import DeepLift
from explain.tables.gated_table import GatedTable
from explain.tables.rows import RowContent, RowSpace
from tests.support.table_rows import gated, mlp

TARGETS = torch.tensor([0, 1, 2, 1, 0])


def plain(inputs: int) -> nn.Sequential:
    """Return the usual network of parts that captum has a rule for."""
    network = mlp(inputs)
    network[1], network[3] = nn.ReLU(), nn.Tanh()
    return network


def captums(model: GatedTable, targets: Tensor) -> Tensor:
    """Return captum's contributions of the columns, (N, C) float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import DeepLift as Oracle

        rows = model.rows(model.open_gates())
        baseline = torch.from_numpy(model.space.baseline).expand_as(rows)
        found = Oracle(model.network).attribute(
            rows.clone(), baselines=baseline.clone(), target=targets
        )
    return model.summed(found.detach())


def test_it_is_captums_deeplift() -> None:
    """Summed over the numbers of each column, to 1e-5."""
    model = gated(plain(6))
    found = DeepLift(model).explain(model.open_gates(), TARGETS)
    assert found.maps.shape == (5, 1, 4)
    apart = found.maps[:, 0].double() - captums(model, TARGETS)
    assert float(apart.abs().max()) < 1e-5


def test_contributions_sum_to_the_change_of_the_score() -> None:
    """For every class, also of a network whose activations work in place."""
    model = gated()
    every = torch.arange(3).expand(5, 3)
    found = DeepLift(model).explain(model.open_gates(), every)
    assert found.output_change is not None
    residual = found.maps.double().sum(dim=(2, 3)) - found.output_change
    assert float(residual.abs().max()) < 1e-4
    with torch.no_grad():
        ends = model(model.open_gates()) - model(model.open_gates() * 0)
    assert torch.allclose(found.output_change.float(), ends, atol=1e-5)
    assert torch.equal(found.logits, model(model.open_gates()))


def test_one_target_is_the_same_as_among_several() -> None:
    """Targets share the forward pass and nothing else."""
    model = gated()
    several = DeepLift(model).explain(model.open_gates(), torch.tensor([[0, 2]] * 5))
    one = DeepLift(model).explain(
        model.open_gates(), torch.full((5,), 2, dtype=torch.int64)
    )
    assert torch.equal(several.maps[:, 1], one.maps)
    assert several.output_change is not None
    assert one.output_change is not None
    assert torch.equal(several.output_change[:, 1], one.output_change)


def by_hand(row: list[float], baseline: list[float]) -> GatedTable:
    """Return y = 2 ReLU(x1 - x2) before one row, and a class that is always 0."""
    first, last = nn.Linear(2, 1), nn.Linear(1, 2)
    first.weight.data, first.bias.data = torch.tensor([[1.0, -1.0]]), torch.zeros(1)
    last.weight.data, last.bias.data = torch.tensor([[0.0], [2.0]]), torch.zeros(2)
    where = RowSpace(widths=(1, 1), baseline=np.asarray(baseline, dtype=np.float32))
    content = RowContent(where, np.asarray(row, dtype=np.float32))
    return GatedTable(nn.Sequential(first, nn.ReLU(), last), [content])


def test_a_neuron_that_is_off_at_the_row_still_counts() -> None:
    """Hand-computed: ReLU(-1) - ReLU(1) over -1 - 1 is 1/2, where the slope is 0."""
    model = by_hand([0.0, 1.0], [1.0, 0.0])
    found = DeepLift(model).explain(model.open_gates(), torch.tensor([1]))
    # 2 * 1/2 * (0 - 1) and 2 * 1/2 * -1 * (1 - 0); together 0 - 2.
    assert found.maps.flatten().tolist() == pytest.approx([-1.0, -1.0])
    assert found.output_change is not None
    assert float(found.output_change) == pytest.approx(-2.0)


def test_a_difference_of_zero_takes_the_slope() -> None:
    """Where both ends of an activation are equal there is no quotient to take."""
    model = by_hand([3.0, 2.0], [2.0, 1.0])
    found = DeepLift(model).explain(model.open_gates(), torch.tensor([1]))
    assert found.maps.flatten().tolist() == pytest.approx([2.0, -2.0])


def test_a_linear_network_has_its_closed_form() -> None:
    """W (x - b) for each number, summed over its column."""
    network = nn.Linear(6, 3)
    model = gated(network)
    found = DeepLift(model).explain(model.open_gates(), TARGETS)
    rows = model.rows(model.open_gates()) - torch.from_numpy(model.space.baseline)
    expected = model.summed(network.weight.detach()[TARGETS] * rows)
    assert torch.allclose(found.maps[:, 0].double(), expected, atol=1e-6)


def test_a_class_that_depends_on_nothing_is_blank() -> None:
    """The map is zero and says so."""
    model = by_hand([0.0, 1.0], [1.0, 0.0])
    found = DeepLift(model).explain(model.open_gates(), torch.tensor([0]))
    assert bool(found.zero_gradient.all())
    assert not bool(found.maps.any())


class Functional(nn.Module):
    """A network whose activation is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, rows: Tensor) -> Tensor:
        """Return scores."""
        return self.last(torch.sigmoid(4 * self.first(rows)))


class Failing(nn.Sequential):
    """A network that fails behind its activations."""

    def forward(self, rows: Any) -> Any:
        """Fail."""
        super().forward(rows)
        raise RuntimeError("no answer")


def test_an_activation_that_is_no_module_is_noticed() -> None:
    """Its contributions would not add up, so there are none."""
    torch.manual_seed(0)
    model = gated(Functional())
    with pytest.raises(UnsupportedModelError, match="no module of its own"):
        DeepLift(model).explain(model.open_gates(), TARGETS)


def test_a_part_without_a_rule_is_named() -> None:
    """Softmax couples its numbers; the rescale rule says nothing of it."""
    with pytest.raises(UnsupportedModelError, match=r"no rule for Softmax \(1\)"):
        DeepLift(gated(nn.Sequential(nn.Linear(6, 3), nn.Softmax(dim=1))))
    with pytest.raises(UnsupportedModelError, match="networks on table rows"):
        DeepLift(mlp(6))


def test_the_network_is_given_back_as_it_was_also_after_a_failure() -> None:
    """No hook stays, and what works in place does so again."""
    network = Failing(*mlp(6).children())
    model = gated(network)
    with pytest.raises(RuntimeError, match="no answer"):
        DeepLift(model).explain(model.open_gates(), TARGETS)
    assert not any(part._forward_hooks for part in network.modules())
    assert network[1].inplace is True
    assert all(parameter.requires_grad for parameter in network.parameters())

# SPDX-License-Identifier: Apache-2.0
"""Methods of every kind, on the columns of rows: against captum and by definition."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explain.errors import UnsupportedModelError
from explain.methods import METHODS, Attribution, create_method
from explain.methods.gated_parameters import for_gates
from explain.tables.gated_table import GatedTable
from explain.tables.trees import Output, TreeEnsemble, Trees
from tests.support.table_rows import brute_force, gated

TARGETS = torch.tensor([0, 1, 2, 1, 0])


def explained(model: GatedTable, method: str, **parameters: Any) -> Attribution:
    """Return the maps of the targets, as a run of tables makes them."""
    given = for_gates(method, METHODS[method].parameters, parameters)
    made = create_method(method, model, **given)
    return made.explain(model.open_gates(), TARGETS)


def rows_and_baseline(model: GatedTable) -> tuple[Tensor, Tensor]:
    """Return what captum is given, (N, E) each."""
    rows = model.rows(model.open_gates())
    return rows.clone(), model.baseline.expand_as(rows).clone()


def test_integrated_gradients_are_captums() -> None:
    """R7: with the same points, summed over the numbers of each column."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import IntegratedGradients
    model = gated()
    rows, baseline = rows_and_baseline(model)
    expected = IntegratedGradients(model.network).attribute(
        rows, baselines=baseline, target=TARGETS, n_steps=50, method="gausslegendre"
    )
    found = explained(model, "integrated_gradients")
    apart = found.maps[:, 0].double() - model.summed(expected.detach())
    assert float(apart.abs().max()) < 1e-4


def test_integrated_gradients_sum_to_the_change_of_the_score() -> None:
    """Completeness: y(x) - y(b), up to the quadrature."""
    model = gated()
    found = explained(model, "integrated_gradients", steps=400)
    with torch.no_grad():
        ends = (model(model.open_gates()) - model(model.open_gates() * 0)).double()
    change = ends.gather(1, TARGETS[:, None])[:, 0]
    assert found.output_change is not None
    assert torch.allclose(found.output_change, change, atol=1e-5)
    residual = found.maps.double().sum(dim=(1, 2)) - change
    assert float(residual.abs().max()) < 1e-2


def test_kernelshap_with_all_coalitions_is_the_shapley_value() -> None:
    """A category is one player, however many numbers it has."""
    model = gated()
    found = explained(model, "kernelshap", samples=16)
    for item, target in enumerate(TARGETS.tolist()):
        expected = brute_force(model, item, target, model.network)
        apart = found.maps[item, 0].double() - expected
        assert float(apart.abs().max()) < 1e-4


def test_occlusion_closes_one_column_after_the_other() -> None:
    """Each has the probability that is lost without it, as captum's ablation says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import FeatureAblation
    model = gated()
    rows, baseline = rows_and_baseline(model)
    softmax = nn.Sequential(model.network, nn.Softmax(dim=1))
    columns = torch.tensor([0, 1, 2, 2, 2, 3])
    expected = FeatureAblation(softmax).attribute(
        rows, baselines=baseline, target=TARGETS, feature_mask=columns[None]
    )
    found = explained(model, "occlusion")
    first = [0, 1, 2, 5]
    assert torch.allclose(found.maps[:, 0], expected[:, first].float(), atol=1e-5)


@pytest.mark.parametrize(
    "method", ["gradient_x_input", "integrated_gradients", "kernelshap", "deeplift"]
)
def test_a_linear_network_has_its_closed_form(method: str) -> None:
    """Weight times (x - b) summed over each column, whatever the method."""
    torch.manual_seed(0)
    network = nn.Linear(6, 3)
    model = gated(network)
    rows, baseline = rows_and_baseline(model)
    expected = model.summed(network.weight.detach()[TARGETS] * (rows - baseline))
    parameters = {"samples": 16} if method == "kernelshap" else {}
    found = explained(model, method, **parameters)
    assert torch.allclose(found.maps[:, 0].double(), expected, atol=1e-5)


def stumps() -> TreeEnsemble:
    """Return trees whose three probabilities are a function of two numbers."""

    def predict(rows: Any) -> Any:
        low = (rows[:, :1] <= 0.1).astype(float)
        high = (rows[:, 5:] > -0.2).astype(float) * 0.5
        said = [0.2 + 0.3 * low, 0.1 + 0.5 * high]
        import numpy as np

        return np.concatenate([*said, 1 - sum(said)], axis=1)

    return TreeEnsemble(
        Trees(
            model=None,
            predict=predict,
            output=Output.PROBABILITY,
            inputs=6,
            classes=3,
        )
    )


@pytest.mark.parametrize("method", ["gradient_x_input", "integrated_gradients"])
def test_gradients_of_trees_are_refused(method: str) -> None:
    """In a sentence that names what to take instead."""
    with pytest.raises(UnsupportedModelError, match="use tree_shap, kernelshap"):
        explained(gated(stumps()), method)


def test_methods_that_only_ask_take_trees() -> None:
    """Columns that no tree splits on have no part."""
    model = gated(stumps())
    found = explained(model, "kernelshap", samples=16)
    assert bool((found.maps[:, 0, 1:3].abs() < 1e-9).all())
    assert bool((found.maps[:, 0, [0, 3]].abs().amax(dim=0) > 0.1).all())
    occluded = explained(model, "occlusion")
    assert not bool(occluded.maps[:, 0, 1:3].any())

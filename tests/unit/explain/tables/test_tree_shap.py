# SPDX-License-Identifier: Apache-2.0
"""Exact Shapley values of trees against their definition and their sums."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explain.errors import UnsupportedModelError
from explain.tables.gated_table import GatedTable
from explain.tables.rows import RowContent, RowSpace
from explain.tables.tree_shap import TreeShap
from explain.tables.trees import TreeEnsemble
from pipeline.models.loading import load_model
from pipeline.spec import ModelSpec
from tests.support.table_rows import brute_force, gated
from tests.support.tree_models import INPUTS, MODELS, data

#: What the shap package takes apart for two classes alone; more are refused below.
TWO_CLASSES_ONLY = ("GradientBoostingClassifier", "lightgbm")


def trees(name: str, folder: Path, classes: int = 2) -> TreeEnsemble:
    """Return a fitted model."""
    source, suffix, fit = MODELS[name]
    path = folder / f"model{suffix}"
    fit(path, classes)
    spec = ModelSpec(source=source, weights=str(path))
    module = load_model(spec, weights=path).module
    assert isinstance(module, TreeEnsemble)
    return module


def behind_gates(
    network: TreeEnsemble, widths: tuple[int, ...] = (1, 1, 1, 1), count: int = 6
) -> GatedTable:
    """Return the first rows of the data, the training mean being their baseline."""
    numbers = data(network.trees.classes)[0]
    where = RowSpace(widths=widths, baseline=numbers.mean(axis=0))
    return GatedTable(network, [RowContent(where, row) for row in numbers[:count]])


class Said(torch.nn.Module):
    """What the leaves add up to, in double precision."""

    def __init__(self, network: TreeEnsemble) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the sums."""
        return self.network.said(rows)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        (name, classes)
        for name in MODELS
        for classes in (2, 3)
        if classes == 2 or name not in TWO_CLASSES_ONLY
    ],
)
def test_values_are_those_of_the_definition(
    name: str, classes: int, tmp_path: Path
) -> None:
    """Every coalition is asked; margins and probabilities alike, every class."""
    network = trees(name, tmp_path, classes)
    model = behind_gates(network)
    every = torch.arange(classes).expand(6, classes)
    found = TreeShap(model).explain(model.open_gates(), every)
    for item in (0, 3, 5):
        for target in range(classes):
            expected = brute_force(model, item, target, Said(network))
            apart = found.maps[item, target, 0].double() - expected
            assert float(apart.abs().max()) < 1e-5


@pytest.mark.parametrize("perturbation", ["interventional", "path_dependent"])
@pytest.mark.parametrize("name", MODELS)
def test_values_sum_to_the_change_of_the_output(
    name: str, perturbation: str, tmp_path: Path
) -> None:
    """R18: what they start from is f(b), or the mean that the trees remember."""
    network = trees(name, tmp_path)
    model = behind_gates(network)
    method = TreeShap(model, perturbation=perturbation)
    found = method.explain(model.open_gates(), torch.ones(6, dtype=torch.int64))
    assert found.output_change is not None
    residual = found.maps.double().sum(dim=(1, 2)) - found.output_change
    assert float(residual.abs().max()) < 1e-5
    said = network.said(model.rows(model.open_gates()))[:, 1]
    start = said - found.output_change
    assert float((start - start[0]).abs().max()) < 1e-9
    if perturbation == "interventional":
        base = network.said(model.rows(model.open_gates() * 0))[:, 1]
        assert torch.allclose(start, base, atol=1e-6)
    else:
        rows = data()[0]
        mean = network.said(torch.from_numpy(rows))[:, 1].mean()
        assert float((start[0] - mean).abs()) < 0.1


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "RandomForestClassifier"])
def test_path_dependent_values_sum_for_every_class(name: str, tmp_path: Path) -> None:
    """Of three; what they start from is the same for all rows."""
    network = trees(name, tmp_path, 3)
    model = behind_gates(network)
    every = torch.arange(3).expand(6, 3)
    method = TreeShap(model, perturbation="path_dependent")
    found = method.explain(model.open_gates(), every)
    assert found.output_change is not None
    residual = found.maps.double().sum(dim=(2, 3)) - found.output_change
    assert float(residual.abs().max()) < 1e-5
    start = network.said(model.rows(model.open_gates())) - found.output_change
    assert float((start - start[0]).abs().max()) < 1e-9


def test_the_numbers_of_a_category_are_one_reason(tmp_path: Path) -> None:
    """Their values are summed, and the columns beside them keep theirs."""
    network = trees("xgboost", tmp_path)
    single = behind_gates(network)
    grouped = behind_gates(network, widths=(1, 2, 1))
    ones = torch.ones(6, dtype=torch.int64)
    apart = TreeShap(single).explain(single.open_gates(), ones).maps[:, 0]
    together = TreeShap(grouped).explain(grouped.open_gates(), ones).maps[:, 0]
    assert together.shape == (6, 3)
    assert torch.allclose(together[:, 1], apart[:, 1] + apart[:, 2], atol=1e-6)
    assert torch.equal(together[:, [0, 2]], apart[:, [0, 3]])


def test_two_classes_are_each_others_mirror(tmp_path: Path) -> None:
    """Half the log-odds for one is half the log-odds against the other."""
    model = behind_gates(trees("lightgbm", tmp_path))
    found = TreeShap(model).explain(model.open_gates(), torch.tensor([[0, 1]] * 6))
    assert torch.equal(found.maps[:, 0], -found.maps[:, 1])
    assert found.logits.shape == (6, 2)


def test_an_item_is_the_same_beside_other_items(tmp_path: Path) -> None:
    """Bit for bit, wherever it stands."""
    network = trees("xgboost", tmp_path)
    model, alone = behind_gates(network), behind_gates(network, count=1)
    whole = TreeShap(model).explain(model.open_gates(), None)
    single = TreeShap(alone).explain(alone.open_gates(), None)
    assert torch.equal(whole.maps[:1], single.maps)


def test_a_half_open_gate_is_a_row_between(tmp_path: Path) -> None:
    """What is explained is the row that the gates show."""
    network = trees("DecisionTreeClassifier", tmp_path)
    model = behind_gates(network)
    gates = model.open_gates() * 0.5
    found = TreeShap(model).explain(gates, torch.ones(6, dtype=torch.int64))
    rows = data()[0][:6]
    between = (rows + model.space.baseline) / 2
    expected = network(torch.from_numpy(between.astype(np.float32)))
    assert torch.allclose(found.logits, expected)


def test_the_baseline_itself_is_blank(tmp_path: Path) -> None:
    """Nothing differs from it, so nothing is a reason."""
    model = behind_gates(trees("xgboost", tmp_path))
    found = TreeShap(model).explain(model.open_gates() * 0, None)
    assert bool(found.zero_gradient.all())
    assert not bool(found.maps.any())


@pytest.mark.parametrize("name", TWO_CLASSES_ONLY)
def test_what_shap_cannot_take_apart_is_refused(name: str, tmp_path: Path) -> None:
    """Values that belong to no class never pass for an explanation."""
    model = behind_gates(trees(name, tmp_path, 3))
    with pytest.raises(UnsupportedModelError, match="use kernelshap or occlusion"):
        TreeShap(model).explain(model.open_gates(), None)


def test_networks_and_a_missing_package_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with what to do instead."""
    with pytest.raises(UnsupportedModelError, match="tree models only; use deeplift"):
        TreeShap(gated())
    model = behind_gates(trees("xgboost", tmp_path))
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(UnsupportedModelError, match=r"'affidavit\[trees\]'"):
        TreeShap(model).explain(model.open_gates(), None)


def test_values_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    """They would explain another model than the one that decides."""
    network = trees("xgboost", tmp_path)
    model = behind_gates(network)
    method = TreeShap(model)
    real: Any = network.trees.predict
    object.__setattr__(network.trees, "predict", lambda rows: real(rows) * 1.1)
    with pytest.raises(UnsupportedModelError, match="do not add up"):
        method.explain(model.open_gates(), None)


def test_rows_have_as_many_numbers_as_the_trees_take(tmp_path: Path) -> None:
    """The fixture is sound: four numbers, of which the last decides nothing."""
    assert trees("xgboost", tmp_path).trees.inputs == INPUTS

# SPDX-License-Identifier: Apache-2.0
"""The public Python API does what its docstrings say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

import affidavit
from explain.errors import ExplainError
from explain.thresholds.calibration import fit_table
from pipeline.errors import ModelError, SpecError
from storage.errors import SchemaOutdatedError, UnknownRunError
from tests.support.workspace import Workspace


def test_a_spec_is_loaded_run_and_read_as_a_table(tmp_path: Path) -> None:
    """`load_spec`, `run` and `results` give the spec, the outcome and a DataFrame."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(5)
    (workspace.folder / "photos" / "0004.png").write_bytes(b"")
    path = workspace.write_spec(
        metrics=["completeness"], criteria=["items_failed.count <= 1"]
    )
    assert affidavit.load_spec(path).metrics == ["completeness"]
    seen: list[int] = []
    home = tmp_path / "elsewhere"
    with workspace.environment():
        outcome = affidavit.run(path, home=home, on_items=seen.append)
        frame = affidavit.results(outcome.run, home=home)
        latest = affidavit.results(home=home)
        with pytest.raises(UnknownRunError):
            affidavit.results("abcdef", home=home)
        with pytest.raises(SchemaOutdatedError, match="There is no database"):
            affidavit.results()
    assert not workspace.home.exists()
    assert (outcome.state, outcome.criteria_met) == ("done", True)
    assert outcome.items == {"total": 5, "done": 4, "failed": 1}
    assert sum(seen) == 5
    assert outcome.report is not None
    assert Path(outcome.report).is_file()
    assert outcome.document["result_digest"] == outcome.result_digest
    assert list(frame["item_index"]) == [0, 1, 2, 3, 4]
    assert list(frame["status"]) == ["done"] * 4 + ["failed"]
    assert frame["completeness_energy"].notna().sum() == 4
    assert frame["reason"][4] == "file_empty"
    assert latest.equals(frame)


def test_mistakes_come_as_named_errors(tmp_path: Path) -> None:
    """A bad spec and a bad model are exceptions that say which they are."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(1)
    with workspace.environment():
        with pytest.raises(SpecError, match="did you mean 'keep'"):
            affidavit.load_spec(workspace.write_spec(threshold={"kep": 1}))
        with pytest.raises(ModelError, match="has no layer 'frob'"):
            affidavit.run(workspace.write_spec(model={"layer": "frob"}))
    assert not workspace.home.exists()


def test_one_batch_is_explained_and_the_model_left_as_it_was() -> None:
    """`explain` gives logits, maps and masks, and changes nothing about the model."""
    torch.manual_seed(0)
    model = models.squeezenet1_1(weights=None, num_classes=5)
    model.train()
    model.features[0].weight.requires_grad_(requires_grad=False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = torch.rand(3, 3, 64, 64)
    explained = affidavit.explain(model, inputs, keep=0.25)
    named = affidavit.explain(
        model, inputs, targets=torch.tensor([1, 2, 3]), layer="features.9"
    )
    assert explained.logits.shape == (3, 5)
    assert np.array_equal(explained.targets, explained.logits.argmax(axis=1))
    assert explained.maps.dtype == np.float32
    assert explained.masks.shape == (3, 64, 64)
    assert np.allclose(explained.masks.mean(axis=(1, 2)), explained.achieved)
    assert np.all(explained.achieved <= 0.25)
    assert (named.layer, list(named.targets)) == ("features.9", [1, 2, 3])
    assert model.training
    assert not model.features[0].weight.requires_grad
    assert model.features[3].squeeze.weight.requires_grad
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, state[n]) for n, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ExplainError):
        affidavit.explain(model, inputs, layer="frob")
    assert model.training


def test_the_package_has_the_documented_names_and_no_other() -> None:
    """Public names are listed and resolve; an unknown one is an AttributeError."""
    assert {name: bool(getattr(affidavit, name)) for name in affidavit.__all__} == (
        dict.fromkeys(affidavit.__all__, True)
    )
    with pytest.raises(AttributeError, match="frobnicate"):
        _ = affidavit.frobnicate  # type: ignore[attr-defined]


def test_targets_and_documents_may_be_plain(tmp_path: Path) -> None:
    """Targets may be a list; a calibration a path or its content; rows are refused."""
    torch.manual_seed(0)
    model = models.resnet18(weights=None, num_classes=5).eval()
    inputs = torch.randn(2, 3, 64, 64)
    listed = affidavit.explain(model, inputs, targets=[1, 4])
    assert listed.targets.tolist() == [1, 4]
    assert (listed.cut > 0).all()
    assert (listed.energy_retained > 0).all()
    with pytest.raises(ExplainError, match="call once for each target"):
        affidavit.explain(model, inputs, targets=torch.tensor([[1, 2], [1, 2]]))
    fitted = fit_table(np.array([[0.1, 0.9]] * 6), [1] * 6, (0.1, 0.5))
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(fitted.document()))
    for given in (fitted, fitted.document(), path, str(path)):
        found = affidavit.explain(
            model, inputs, policy="calibrated", calibration=given, targets=[1, 1]
        )
        assert (found.achieved <= 0.5).all()
        assert (found.masks.mean(axis=(1, 2)) == found.achieved).all()


def test_given_regions_are_kept_as_wholes() -> None:
    """Regions given in Python decide what `semantic` keeps."""
    torch.manual_seed(0)
    model = models.resnet18(weights=None, num_classes=5).eval()
    regions = torch.zeros(1, 64, 64, dtype=torch.long)
    regions[:, :, 32:] = 1
    found = affidavit.explain(
        model,
        torch.randn(1, 3, 64, 64),
        policy="semantic",
        regions=regions,
        segments="given",
        keep=0.01,
        gamma=1.0,
    )
    left, right = found.masks[0, :, :32], found.masks[0, :, 32:]
    assert left.all() != right.all()
    assert left.any() != right.any()

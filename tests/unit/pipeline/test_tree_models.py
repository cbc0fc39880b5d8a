# SPDX-License-Identifier: Apache-2.0
"""Tree models read from files: what they say, and what is refused without running."""

import json
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explain.errors import InvalidInputError, UnsupportedModelError
from explain.tables.trees import TreeEnsemble
from pipeline.errors import ModelError, ModelRefusedError, Refusal
from pipeline.models.loading import load_model
from pipeline.models.weights import read_file
from pipeline.spec import ModelSpec
from tests.support.tree_models import MODELS, data, fit_sklearn, probabilities


def loaded(source: str, path: Path, **more: Any) -> TreeEnsemble:
    """Return the model as an audit loads it."""
    spec = ModelSpec(source=source, weights=str(path), **more)
    module = load_model(spec, weights=path).module
    assert isinstance(module, TreeEnsemble)
    return module


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_the_softmax_of_the_scores_is_the_librarys_probability(
    name: str, classes: int, tmp_path: Path
) -> None:
    """Of every library, for two classes and more; the digest is the file's."""
    source, suffix, fit = MODELS[name]
    path = tmp_path / f"model{suffix}"
    fitted = fit(path, classes)
    rows = data(classes)[0][:40]
    model = loaded(source, path)
    found = model(torch.from_numpy(rows)).double().softmax(dim=1).numpy()
    assert np.abs(found - probabilities(name, fitted, rows)).max() < 2e-6
    spec = ModelSpec(source=source, weights=str(path))
    assert load_model(spec, weights=path).sha256 == read_file(path).sha256


@pytest.mark.parametrize("name", MODELS)
def test_a_row_is_the_same_beside_other_rows(name: str, tmp_path: Path) -> None:
    """Trees answer row by row, bit for bit."""
    source, suffix, fit = MODELS[name]
    fit(tmp_path / f"model{suffix}", 2)
    model = loaded(source, tmp_path / f"model{suffix}")
    rows = torch.from_numpy(data()[0][:30])
    whole = model(rows)
    assert torch.equal(model(rows[17:18]), whole[17:18])
    assert torch.equal(model(rows.flip(0)).flip(0), whole)


def test_a_gradient_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """It would be zero everywhere, which is no explanation."""
    MODELS["xgboost"][2](tmp_path / "m.json", 2)
    model = loaded("xgboost", tmp_path / "m.json")
    with pytest.raises(UnsupportedModelError, match=r"no gradient; use tree_shap"):
        model(torch.zeros(1, 4, requires_grad=True))
    with pytest.raises(InvalidInputError, match="rows of 4 numbers"):
        model(torch.zeros(1, 5))


class Planted:
    """An object that leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what unpickling would call."""
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("source", ["xgboost", "lightgbm", "sklearn-trees"])
def test_a_pickle_is_never_opened(source: str, protocol: int, tmp_path: Path) -> None:
    """The refusal says how to save instead, and nothing ran."""
    mark, path = tmp_path / "mark", tmp_path / "model.skops"
    path.write_bytes(pickle.dumps(Planted(mark), protocol=protocol))
    with pytest.raises(ModelRefusedError, match="is a pickle") as caught:
        loaded(source, path)
    assert caught.value.code is Refusal.HOLDS_CODE
    assert not mark.exists()


def test_a_type_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    """A skops file names its types; one of ours alone is made."""
    path = tmp_path / "model.skops"
    fit_sklearn("DecisionTreeClassifier")(path, 2)
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(held["schema.json"])
    schema["__class__"], schema["__module__"] = "Popen", "subprocess"
    held["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    with pytest.raises(ModelRefusedError, match=r"the type subprocess\.Popen"):
        loaded("sklearn-trees", path)


def test_nodes_that_point_out_of_the_tree_are_refused(tmp_path: Path) -> None:
    """The library would read what lies behind its arrays."""
    from skops import io

    model = fit_sklearn("DecisionTreeClassifier")(tmp_path / "model.skops", 2)
    state = model.tree_.__getstate__()
    inner = int(np.flatnonzero(state["nodes"]["left_child"] >= 0)[0])
    state["nodes"]["left_child"][inner] = 10_000_000
    model.tree_.__setstate__(state)
    path = tmp_path / "damaged.skops"
    io.dump(model, path)
    with pytest.raises(ModelError, match="is not a skops file that can be read"):
        loaded("sklearn-trees", path)


def test_other_models_are_named_with_what_is_supported(tmp_path: Path) -> None:
    """A regressor or a linear model has no trees that tell classes apart."""
    from sklearn.linear_model import LogisticRegression
    from skops import io

    path = tmp_path / "model.skops"
    io.dump(LogisticRegression().fit(*data()), path)
    with pytest.raises(ModelError, match="holds a LogisticRegression; supported are"):
        loaded("sklearn-trees", path)


def test_an_ensemble_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    """Its scores would be taken for log-odds."""
    import lightgbm
    import xgboost

    rows, labels = data()
    path = tmp_path / "model.json"
    xgboost.train(
        {"objective": "reg:squarederror", "nthread": 1},
        xgboost.DMatrix(rows, labels),
        2,
    ).save_model(str(path))
    with pytest.raises(ModelError, match="trained for 'reg:squarederror'"):
        loaded("xgboost", path)
    text = tmp_path / "model.txt"
    wanted = {"objective": "regression", "num_threads": 1, "verbose": -1}
    booster = lightgbm.train(wanted, lightgbm.Dataset(rows, labels), 2)
    text.write_text(booster.model_to_string(), "utf-8")
    with pytest.raises(ModelError, match="trained for 'regression'"):
        loaded("lightgbm", text)


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("xgboost", b""),
        ("xgboost", b"{}"),
        ("xgboost", b'{"learner": {"objective": 3}}'),
        ("xgboost", b"[" * 100_000),
        ("lightgbm", b""),
        ("lightgbm", b"\xff\xfe"),
        ("lightgbm", b"tree\nobjective=binary sigmoid:1\n"),
        ("sklearn-trees", b""),
        ("sklearn-trees", b"PK\x03\x04 and then nothing"),
    ],
)
def test_a_damaged_file_is_one_sentence(
    source: str, content: bytes, tmp_path: Path
) -> None:
    """Whatever its library says of it."""
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="that can be read; write it again"):
        loaded(source, path)


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "DecisionTreeClassifier"])
def test_a_file_that_was_cut_off_is_refused(name: str, tmp_path: Path) -> None:
    """Half of a model is never taken for a smaller one."""
    source, suffix, fit = MODELS[name]
    path = tmp_path / f"model{suffix}"
    fit(path, 2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="that can be read; write it again"):
        loaded(source, path)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("xgboost", "xgboost"),
        ("lightgbm", "lightgbm"),
        ("DecisionTreeClassifier", "skops"),
    ],
)
def test_a_missing_package_is_named_with_the_extra(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message holds the line that installs it."""
    source, suffix, fit = MODELS[name]
    path = tmp_path / f"model{suffix}"
    fit(path, 2)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"needs {package}.*'affidavit\[trees\]'"):
        loaded(source, path)


def test_a_tree_model_needs_its_file_and_no_arguments(tmp_path: Path) -> None:
    """There is no frame that arguments could shape."""
    with pytest.raises(ModelError, match=r"name it under model\.weights"):
        load_model(ModelSpec(source="xgboost"), weights=None)
    MODELS["xgboost"][2](tmp_path / "m.json", 2)
    with pytest.raises(ModelError, match=r"xgboost takes no model\.arguments"):
        loaded("xgboost", tmp_path / "m.json", arguments={"classes": 2})
    with pytest.raises(ModelRefusedError, match="the spec expects"):
        loaded("xgboost", tmp_path / "m.json", sha256="0" * 64)

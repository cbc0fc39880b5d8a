# SPDX-License-Identifier: Apache-2.0
"""Small tree models of every library, fitted to seeded data and written to files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

INPUTS = 4
Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
#: Writes a fitted model to the path, and returns the library's object.
Fit = Callable[[Path, int], Any]


def data(classes: int = 2, rows: int = 200) -> Data:
    """Return rows of four numbers, and classes that three of them decide."""
    draw = np.random.default_rng(classes)
    numbers = draw.normal(size=(rows, INPUTS)).astype(np.float32)
    score = numbers[:, 0] * numbers[:, 1] + numbers[:, 2]
    edges = np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1])
    return numbers, np.digitize(score, edges).astype(np.int64)


def fit_xgboost(path: Path, classes: int = 2) -> Any:
    """Write an XGBoost model in JSON."""
    import xgboost

    rows, labels = data(classes)
    wanted: dict[str, Any] = {"max_depth": 3, "nthread": 1, "seed": 0}
    if classes == 2:
        wanted["objective"] = "binary:logistic"
    else:
        wanted |= {"objective": "multi:softprob", "num_class": classes}
    booster = xgboost.train(wanted, xgboost.DMatrix(rows, labels), 8)
    booster.save_model(str(path))
    return booster


def fit_lightgbm(path: Path, classes: int = 2) -> Any:
    """Write a LightGBM model in text."""
    import lightgbm

    rows, labels = data(classes)
    wanted: dict[str, Any] = {"num_leaves": 6, "num_threads": 1, "verbose": -1}
    if classes == 2:
        wanted["objective"] = "binary"
    else:
        wanted |= {"objective": "multiclass", "num_class": classes}
    booster = lightgbm.train(wanted, lightgbm.Dataset(rows, labels), 8)
    path.write_text(booster.model_to_string(), "utf-8")
    return booster


def fit_sklearn(name: str) -> Fit:
    """Return what writes a scikit-learn classifier of that class with skops."""

    def fit(path: Path, classes: int = 2) -> Any:
        import sklearn.ensemble
        import sklearn.tree
        from skops import io

        home = sklearn.tree if name.startswith("Decision") else sklearn.ensemble
        wanted: dict[str, Any] = {"max_depth": 3, "random_state": 0}
        if name.startswith("Hist"):
            wanted["max_iter"] = 8
        elif not name.startswith("Decision"):
            wanted["n_estimators"] = 8
        model = getattr(home, name)(**wanted).fit(*data(classes))
        io.dump(model, path)
        return model

    return fit


#: Source of the spec, suffix of the file and what writes it, by name.
MODELS: dict[str, tuple[str, str, Fit]] = {
    "xgboost": ("xgboost", ".json", fit_xgboost),
    "lightgbm": ("lightgbm", ".txt", fit_lightgbm),
    **{
        name: ("sklearn-trees", ".skops", fit_sklearn(name))
        for name in (
            "GradientBoostingClassifier",
            "HistGradientBoostingClassifier",
            "RandomForestClassifier",
            "ExtraTreesClassifier",
            "DecisionTreeClassifier",
        )
    },
}


def margins(name: str, model: Any, rows: npt.NDArray[np.float32]) -> Any:
    """Return what the library itself says: margins, or a forest's probabilities."""
    if name == "xgboost":
        import xgboost

        return model.predict(xgboost.DMatrix(rows), output_margin=True)
    if name == "lightgbm":
        return model.predict(rows, raw_score=True)
    if hasattr(model, "decision_function"):
        return model.decision_function(rows)
    return model.predict_proba(rows)


def probabilities(name: str, model: Any, rows: npt.NDArray[np.float32]) -> Any:
    """Return the library's own probability of each class, (M, K)."""
    if name == "xgboost":
        import xgboost

        found = model.predict(xgboost.DMatrix(rows))
    elif name == "lightgbm":
        found = model.predict(rows)
    else:
        return model.predict_proba(rows)
    return np.stack([1 - found, found], axis=1) if found.ndim == 1 else found

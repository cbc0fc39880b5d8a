# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's tree classifiers from a file that `skops.io.dump` writes.

A `.skops` file is data: types are named in it, and only those that are trusted here are
made. A pickle, joblib's included, is never opened.
"""

import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from explain.tables.trees import Output, Predict, TreeEnsemble, Trees
from pipeline.errors import ModelError, ModelRefusedError, Refusal
from pipeline.models.architecture import Architecture
from pipeline.models.tree_files import (
    built_from_nothing,
    damaged,
    ensemble,
    extra_installed,
    no_classifier,
    refuse_pickle,
)
from pipeline.models.weights import WeightsFile

_KIND = "a skops file"
_SAVE = "save it with skops.io.dump(model, 'model.skops')"
#: Beside what skops itself trusts of scikit-learn and numpy: arrays of trees.
_TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
_MARGINS = ("GradientBoostingClassifier", "HistGradientBoostingClassifier")
_FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier")


def read(file: WeightsFile) -> TreeEnsemble:
    """Return the model that the file holds.

    Raises:
        ModelRefusedError: the file is a pickle, or names a type that is not trusted.
        ModelError: skops is not installed, the file is damaged, or another model.
    """
    refuse_pickle(file, _SAVE)
    model = _loaded(file)
    name = type(model).__name__
    if name not in {*_MARGINS, *_FORESTS} or not _is_sklearns(model):
        raise ModelError(
            f"The model file {file.path} holds a {name}; supported are"
            f" {', '.join((*_MARGINS, *_FORESTS))}."
        )
    _require_sound(model, file)
    if getattr(model, "loss", "log_loss") != "log_loss":
        raise no_classifier(file, str(model.loss))
    forest = name in _FORESTS
    return ensemble(
        Trees(
            model=model,
            predict=_predict(model, forest=forest),
            output=Output.PROBABILITY if forest else Output.MARGIN,
            inputs=int(model.n_features_in_),
            classes=len(model.classes_),
        ),
        file,
    )


def _loaded(file: WeightsFile) -> Any:
    with extra_installed("skops"):
        from skops import io  # noqa: PLC0415 - an extra
    try:
        strange = set(io.get_untrusted_types(data=file.content)) - set(_TRUSTED)
        if strange:
            raise ModelRefusedError(
                f"The model file {file.path} names the type {min(strange)}, which is"
                " not trusted, and was not loaded; save the bare classifier.",
                code=Refusal.HOLDS_CODE,
                sha256=file.sha256,
            )
        return io.loads(file.content, trusted=list(_TRUSTED))
    except ModelError:
        raise
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ImportError,
        EOFError,
        NotImplementedError,
    ) as exc:
        raise damaged(file, _KIND) from exc


def _is_sklearns(model: Any) -> bool:
    return type(model).__module__.partition(".")[0] == "sklearn"


def _predict(model: Any, *, forest: bool) -> Predict:
    ask = model.predict_proba if forest else model.decision_function

    def predict(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        with warnings.catch_warnings():
            # A model that was fitted with column names complains of bare numbers.
            warnings.simplefilter("ignore", UserWarning)
            return np.asarray(ask(rows), dtype=np.float64)

    return predict


def _require_sound(model: Any, file: WeightsFile) -> None:
    """Refuse trees whose nodes point out of their arrays: nothing else checks that.

    Raises:
        ModelError: the model is not fitted, tells many things at once, or is damaged.
    """
    try:
        classes, inputs = model.classes_, int(model.n_features_in_)
        if np.ndim(classes) != 1:
            raise ModelError(
                f"The model file {file.path} has several outputs; only one is"
                " supported."
            )
        sound = all(_points_inside(nodes, inputs) for nodes in _trees(model))
    except (AttributeError, TypeError, ValueError, LookupError) as exc:
        raise damaged(file, _KIND) from exc
    if not sound:
        raise damaged(file, _KIND)


def _trees(model: Any) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Yield left and right children, features and whether it is a leaf of each node."""
    if hasattr(model, "_predictors"):
        for stage in model._predictors:  # noqa: SLF001 - where this class keeps them
            for each in stage:
                nodes = each.nodes
                leaf = nodes["is_leaf"].astype(bool)
                yield nodes["left"], nodes["right"], nodes["feature_idx"], leaf
        return
    members = getattr(model, "estimators_", [model])
    for member in np.ravel(np.asarray(members, dtype=object)):
        tree = member.tree_
        left = tree.children_left
        yield left, tree.children_right, tree.feature, left == -1


def _points_inside(nodes: tuple[npt.NDArray[Any], ...], inputs: int) -> bool:
    """Say whether children lie behind their node, in the array, and features exist."""
    left, right, feature, leaf = nodes
    inner = ~leaf
    own = np.flatnonzero(inner)
    return bool(
        len(leaf) > 0
        and all(
            (own < side[inner].astype(np.int64)).all()
            and (side[inner] < len(leaf)).all()
            for side in (left, right)
        )
        and (feature[inner] >= 0).all()
        and (feature[inner] < inputs).all()
    )


architecture = Architecture(build=built_from_nothing, read=read)

# SPDX-License-Identifier: Apache-2.0
"""XGBoost classifiers from the JSON that `Booster.save_model("model.json")` writes."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from explain.tables.trees import Output, TreeEnsemble, Trees
from pipeline.errors import ModelError
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

#: Objectives whose margins are log-odds, or scores under a softmax.
_OBJECTIVES = frozenset(
    {"binary:logistic", "binary:logitraw", "multi:softprob", "multi:softmax"}
)
_BOOSTERS = frozenset({"gbtree", "dart"})
_KIND = "an XGBoost model in JSON"


def read(file: WeightsFile) -> TreeEnsemble:
    """Return the model that the file holds.

    Raises:
        ModelRefusedError: the file is a pickle.
        ModelError: xgboost is not installed, the file is damaged, or no classifier of
            numeric columns.
    """
    refuse_pickle(file, "save it with save_model('model.json')")
    facts = _facts(file)
    with extra_installed("xgboost"):
        import xgboost  # noqa: PLC0415 - an extra
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(file.content))
    except (xgboost.core.XGBoostError, ValueError) as exc:
        raise damaged(file, _KIND) from exc
    if "c" in (booster.feature_types or ()):
        raise ModelError(
            f"The model file {file.path} splits on categories of its own; train it on"
            " the encoded rows, which are numbers alone."
        )
    # Names would have to come with every batch; the encoding has them.
    booster.feature_names = booster.feature_types = None

    def predict(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        booster.set_param({"nthread": torch.get_num_threads()})
        said = booster.predict(xgboost.DMatrix(rows), output_margin=True)
        return np.asarray(said, dtype=np.float64)

    return ensemble(
        Trees(
            model=booster,
            predict=predict,
            output=Output.MARGIN,
            inputs=booster.num_features(),
            classes=max(2, facts),
        ),
        file,
    )


def _facts(file: WeightsFile) -> int:
    """Return the number of classes that the file states; 0 for two.

    Raises:
        ModelError: the file is no model, or no classifier.
    """
    try:
        learner: dict[str, Any] = json.loads(file.content)["learner"]
        objective = str(learner["objective"]["name"])
        booster = str(learner["gradient_booster"]["name"])
        classes = int(learner["learner_model_param"]["num_class"])
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise damaged(file, _KIND) from exc
    if objective not in _OBJECTIVES:
        raise no_classifier(file, objective)
    if booster not in _BOOSTERS:
        raise ModelError(
            f"The model file {file.path} holds a '{booster}', not trees; train it with"
            " booster gbtree."
        )
    return classes


architecture = Architecture(build=built_from_nothing, read=read)

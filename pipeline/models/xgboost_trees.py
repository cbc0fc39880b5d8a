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
    classes = _class_count(file)
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

    return ensemble(
        Trees(
            model=booster,
            predict=_Margins(booster),
            output=Output.MARGIN,
            inputs=booster.num_features(),
            classes=max(2, classes),
        ),
        file,
    )


class _Margins:
    """What a booster says of rows, with as many threads as torch may use."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self._threads = 0

    def __call__(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the margins.

        Shape: (M, E) -> (M,) or (M, K).
        """
        threads = torch.get_num_threads()
        if threads != self._threads:
            # Set anew, the booster would configure itself anew: most of a call's time.
            self._booster.set_param({"nthread": threads})
            self._threads = threads
        said = self._booster.inplace_predict(rows, predict_type="margin")
        return np.asarray(said, dtype=np.float64)


def _class_count(file: WeightsFile) -> int:
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

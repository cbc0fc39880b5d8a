# SPDX-License-Identifier: Apache-2.0
"""LightGBM classifiers from the text that `Booster.save_model("model.txt")` writes."""

import logging
import re

import numpy as np
import numpy.typing as npt
import torch

from explain.tables.trees import Output, TreeEnsemble, Trees
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

_KIND = "a LightGBM model in text"
#: Of the header: margins are log-odds, or scores under a softmax.
_OBJECTIVE = re.compile(r"^objective=(.*)$", re.MULTILINE)
_BINARY = re.compile(r"binary sigmoid:1(\.0*)?")
_SOFTMAX = re.compile(r"multiclass num_class:\d+")


def read(file: WeightsFile) -> TreeEnsemble:
    """Return the model that the file holds.

    Raises:
        ModelRefusedError: the file is a pickle.
        ModelError: lightgbm is not installed, the file is damaged, or no classifier.
    """
    refuse_pickle(file, "save it with booster_.save_model('model.txt')")
    text = _text(file)
    with extra_installed("lightgbm"):
        import lightgbm  # noqa: PLC0415 - an extra
    # By itself it prints, also into what a command gives as JSON.
    lightgbm.register_logger(logging.getLogger("lightgbm"))
    try:
        booster = lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError, KeyError) as exc:
        raise damaged(file, _KIND) from exc

    def predict(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        said = booster.predict(
            rows, raw_score=True, num_threads=torch.get_num_threads()
        )
        return np.asarray(said, dtype=np.float64)

    return ensemble(
        Trees(
            model=booster,
            predict=predict,
            output=Output.MARGIN,
            inputs=booster.num_feature(),
            classes=max(2, booster.num_model_per_iteration()),
        ),
        file,
    )


def _text(file: WeightsFile) -> str:
    """Return the file as text.

    Raises:
        ModelError: it is no model, cut off, or no classifier.
    """
    try:
        text = file.content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise damaged(file, _KIND) from exc
    stated = _OBJECTIVE.search(text)
    # The library reads a file that was cut off as a model of fewer trees.
    if not text.startswith("tree\n") or stated is None or "\nend of trees" not in text:
        raise damaged(file, _KIND)
    objective = stated[1].strip()
    if not _BINARY.fullmatch(objective) and not _SOFTMAX.fullmatch(objective):
        raise no_classifier(file, objective)
    return text


architecture = Architecture(build=built_from_nothing, read=read)

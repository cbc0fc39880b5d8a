# SPDX-License-Identifier: Apache-2.0
"""What the readers of tree models have in common: refusals, in one sentence each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Never

from explain.errors import UnsupportedModelError
from explain.tables.trees import TreeEnsemble, Trees
from pipeline.errors import ModelError, ModelRefusedError, Refusal
from pipeline.models.weights import WeightsFile

#: How a pickle of protocol 2 and later begins, and how compressed ones of joblib do.
_PICKLES = (b"\x80", b"x\x9c", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")


def built_from_nothing(**_arguments: Any) -> Never:
    """A tree model has no frame that could be built without its file.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        "A tree model is read from one file as a whole; name it under model.weights and"
        " give no model.arguments."
    )


def refuse_pickle(file: WeightsFile, instead: str) -> None:
    """Nothing happens if the file is no pickle; a pickle is never opened.

    Args:
        file: What was read.
        instead: How to save the model so that it can be read.

    Raises:
        ModelRefusedError: it begins like a pickle.
    """
    if file.content.startswith(_PICKLES):
        raise ModelRefusedError(
            f"The model file {file.path} is a pickle, which runs code when it is"
            f" opened, and was not loaded; {instead}.",
            code=Refusal.HOLDS_CODE,
            sha256=file.sha256,
        )


def ensemble(trees: Trees, file: WeightsFile) -> TreeEnsemble:
    """Return the ensemble as a module.

    Raises:
        ModelError: it does not tell classes apart.
    """
    try:
        return TreeEnsemble(trees)
    except UnsupportedModelError as exc:
        raise ModelError(f"{file.path}: {exc}") from exc


@contextmanager
def extra_installed(package: str) -> Iterator[None]:
    """A missing package comes out as what to install.

    Raises:
        ModelError: the package is not there.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        raise ModelError(
            f"The model needs {package}, which is not installed; install it with: pip"
            " install 'affidavit[trees]'."
        ) from exc


def damaged(file: WeightsFile, kind: str) -> ModelError:
    """Return the error for a file that its library cannot read."""
    return ModelError(
        f"The model file {file.path} is not {kind} that can be read; write it again."
    )


def no_classifier(file: WeightsFile, objective: str) -> ModelError:
    """Return the error for an ensemble whose scores are no class scores."""
    return ModelError(
        f"The model file {file.path} was trained for '{objective}'; only classifiers"
        " that give one margin or probability a class are supported."
    )

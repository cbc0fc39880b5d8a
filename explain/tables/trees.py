# SPDX-License-Identifier: Apache-2.0
"""Ensembles of decision trees behind the face of a network: rows in, scores out.

Boosted trees give margins. Where one margin m speaks for the second of two classes,
the class scores are (-m/2, m/2): their softmax is the model's probability, and their
difference its log-odds. Forests give probabilities p; their class scores are log p,
whose softmax is p again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError, UnsupportedModelError

#: Rows (M, E) float32 to what a library's model says of them, (M,) or (M, R) float64.
Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]

#: A forest may be certain; log 0 would be no number.
_LEAST_PROBABILITY = 1e-6


class Output(StrEnum):
    """What the leaves of an ensemble add up to."""

    MARGIN = "margin"
    PROBABILITY = "probability"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trees:
    """A fitted ensemble as its library made it.

    Attributes:
        model: The library's object, which the ``shap`` package understands.
        predict: What it says of rows: margins, or each class's probability.
        output: Which of the two.
        inputs: How many numbers a row has.
        classes: How many classes it tells apart, at least 2.
    """

    model: Any
    predict: Predict
    output: Output
    inputs: int
    classes: int


class TreeEnsemble(nn.Module):
    """Decision trees, asked like a network; they are never differentiated.

    Attributes:
        trees: The ensemble.
        explainers: What took it apart so far, by the bytes of the baseline.
    """

    def __init__(self, trees: Trees) -> None:
        """Take the ensemble.

        Raises:
            UnsupportedModelError: it does not tell classes apart.
        """
        super().__init__()
        if trees.classes < 2:
            raise UnsupportedModelError(
                "The tree model tells no classes apart; only classifiers are supported."
            )
        self.trees = trees
        self.explainers: dict[bytes, Any] = {}

    def forward(self, rows: Tensor) -> Tensor:
        """Return the class scores of rows; their softmax is the probability.

        Shape: (M, E) float32 -> (M, K) float32, on the rows' device.

        Raises:
            InvalidInputError: rows of another length.
            UnsupportedModelError: a gradient is asked for.
        """
        if torch.is_grad_enabled() and rows.requires_grad:
            raise UnsupportedModelError(
                "A tree model is constant between its splits and has no gradient; use"
                " tree_shap, kernelshap or occlusion."
            )
        said = self.said(rows)
        if self.trees.output is Output.PROBABILITY:
            said = said.clamp(min=_LEAST_PROBABILITY).log()
        return said.float()

    def said(self, rows: Tensor) -> Tensor:
        """Return what the leaves add up to for each class, in the output's units.

        Shape: (M, E) -> (M, K) float64, on the rows' device.

        Raises:
            InvalidInputError: rows of another length.
        """
        if rows.ndim != 2 or rows.shape[1] != self.trees.inputs:
            raise InvalidInputError(
                f"The tree model takes rows of {self.trees.inputs} numbers, got"
                f" {tuple(rows.shape)}."
            )
        numbers = rows.detach().cpu().float().contiguous().numpy()
        said = np.asarray(self.trees.predict(numbers), dtype=np.float64)
        by_class = self.by_class(said.reshape(len(numbers), -1))
        return torch.from_numpy(by_class).to(rows.device)

    def by_class(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return one value a class, also where the library has one for both of two.

        Shape: (..., R) -> (..., K); R is 1 for the margins of two classes, else K.

        Raises:
            UnsupportedModelError: the library has another number of values.
        """
        classes, given = self.trees.classes, values.shape[-1]
        if given == 1 and classes == 2 and self.trees.output is Output.MARGIN:
            half = values / 2
            return np.concatenate([-half, half], axis=-1)
        if given != classes:
            raise UnsupportedModelError(
                f"Expected {classes} values from the tree model, one a class, got"
                f" {given}."
            )
        return np.ascontiguousarray(values)

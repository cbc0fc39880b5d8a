# SPDX-License-Identifier: Apache-2.0
"""Exact Shapley values of tree ensembles, summed over the numbers of each column.

    phi_e = sum over S without e of |S|! (E - |S| - 1)! / E! (v(S + e) - v(S))

``interventional``: v(S) is the ensemble's output on the row with the numbers in S as
they are and all others from the baseline; the values sum to f(x) - f(b).
``path_dependent``: v(S) follows x at splits on S and else both branches, weighted by
the training rows that took them; the values sum to f(x) less the trees' mean.

Values are in the ensemble's own units: margins of boosted trees (half the log-odds for
two classes, see ``explain.tables.trees``), probabilities of forests. They are computed
by the ``shap`` package for each number of a row; a column of several numbers, such as
one-hot categories, has their sum.

Source: Lundberg et al. 2020, "From local explanations to global understanding with
explainable AI for trees", Nature Machine Intelligence 2, algorithms 2 and 3.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.errors import UnsupportedModelError
from explain.frozen import frozen
from explain.methods.input_forward import as_columns
from explain.methods.method import Attribution, chosen_targets
from explain.methods.perturbed_scores import perturbation_attribution
from explain.tables.gated_table import GatedTable
from explain.tables.trees import TreeEnsemble

INTERVENTIONAL = "interventional"
PATH_DEPENDENT = "path_dependent"

#: Largest distance of the values' sum from the output, beside its own size: shap
#: reckons partly in single precision.
_TOLERANCE = 1e-3
_CANNOT = (
    "The shap package cannot take this tree model apart; use kernelshap or occlusion,"
    " which only ask it."
)


class TreeShap:
    """Exact Shapley values of one tree model behind gates."""

    name = "tree_shap"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        perturbation: str = INTERVENTIONAL,
    ) -> None:
        """Take the model.

        Raises:
            UnsupportedModelError: it is no tree model.
        """
        self._model, self._trees = _gated_trees(model)
        self._perturbation = perturbation

    @property
    def passes(self) -> float:
        """One forward pass; walking the trees costs about ten more."""
        return 11.0

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the Shapley value of each column for each item's target.

        All targets of an item share one walk through the trees.

        Shape: inputs (N, 1, 1, C) gates, targets (N,) or (N, T) int64 -> maps
        (N, 1, C).

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the ``shap`` package is missing, cannot take the
                trees apart, or its values do not add up to the output.
        """
        with frozen(self._model), torch.no_grad():
            rows = self._model.rows(inputs.detach())
            logits = self._trees(rows)
            classes = chosen_targets(logits, targets)
            said = self._trees.said(rows)
            values, start = self._values(rows)
            _require_sum(values, said - start)
            columns = as_columns(classes)
            of_columns = torch.stack(
                [self._model.summed(each) for each in values.unbind(dim=1)], dim=1
            )
            places = columns[:, :, None].expand(-1, -1, of_columns.shape[2])
            maps = of_columns.gather(1, places)[:, :, None]
            change = (said - start).gather(1, columns)
            blank = (maps == 0).flatten(2).all(dim=2)
        return perturbation_attribution(
            logits, classes, maps, blank, halved=False, output_change=change
        )

    def _explainer(self) -> Any:
        """Return the ``shap`` package's explainer, made once for a tree model."""
        background = None
        if self._perturbation == INTERVENTIONAL:
            background = self._model.space.baseline[None]
        key = b"" if background is None else background.tobytes()
        made = self._trees.explainers
        if key not in made:
            made[key] = _explainer(self._trees, background)
        return made[key]

    def _values(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value of each number for each class, and what they start from.

        Shape: (N, E) -> (N, K, E) and (1, K), float64.

        Raises:
            UnsupportedModelError: the values belong to no class.
        """
        explainer = self._explainer()
        with warnings.catch_warnings():
            # It tells users of other versions that its lists have become arrays.
            warnings.simplefilter("ignore")
            found = explainer.shap_values(rows.cpu().numpy(), check_additivity=False)
        values = np.asarray(found, dtype=np.float64)
        of_numbers = self._by_class(values[..., None] if values.ndim == 2 else values)
        by_class = torch.from_numpy(of_numbers).transpose(1, 2).to(rows.device)
        if self._perturbation == INTERVENTIONAL:
            # The package's own start lacks what XGBoost adds to each class by itself.
            return by_class, self._trees.said(self._model.baseline[None].to(rows))
        mean = np.atleast_1d(np.asarray(explainer.expected_value, np.float64))
        return by_class, torch.from_numpy(self._by_class(mean[None])).to(rows.device)

    def _by_class(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        try:
            return self._trees.by_class(values)
        except UnsupportedModelError as exc:
            raise UnsupportedModelError(_CANNOT) from exc


def _gated_trees(model: nn.Module) -> tuple[GatedTable, TreeEnsemble]:
    if isinstance(model, GatedTable) and isinstance(model.network, TreeEnsemble):
        return model, model.network
    raise UnsupportedModelError(
        "Method 'tree_shap' explains tree models only; use deeplift,"
        " integrated_gradients or kernelshap for a network."
    )


def _explainer(trees: TreeEnsemble, background: npt.NDArray[np.float32] | None) -> Any:
    """Return the ``shap`` package's explainer of the trees.

    Raises:
        UnsupportedModelError: the package is not installed, or refuses the model.
    """
    try:
        with warnings.catch_warnings():
            # Its plots announce deprecations of a library that is not used here.
            warnings.simplefilter("ignore")
            import shap  # noqa: PLC0415 - heavy, and an extra
            from shap.utils._exceptions import (  # noqa: PLC0415
                InvalidModelError,
            )
    except ModuleNotFoundError as exc:
        raise UnsupportedModelError(
            "Method 'tree_shap' needs the shap package; install it with: pip install"
            " 'affidavit[trees]'."
        ) from exc
    try:
        return shap.TreeExplainer(
            trees.trees.model,
            data=background,
            feature_perturbation=(
                "tree_path_dependent" if background is None else INTERVENTIONAL
            ),
            model_output="raw",
        )
    except (InvalidModelError, NotImplementedError) as exc:
        raise UnsupportedModelError(_CANNOT) from exc


def _require_sum(values: Tensor, change: Tensor) -> None:
    """Refuse values that do not add up: they would explain another model.

    Shape: values (N, K, E), change (N, K).
    """
    residual = (values.sum(dim=2) - change).abs()
    if bool((residual > _TOLERANCE * (1 + change.abs())).any()):
        raise UnsupportedModelError(
            "The shap package's values do not add up to this tree model's output; use"
            " kernelshap or occlusion, which only ask it."
        )

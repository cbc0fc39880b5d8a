# SPDX-License-Identifier: Apache-2.0
"""DeepLIFT with the rescale rule: contributions against the baseline row.

    C_c = sum over the numbers e of column c of m_e (x_e - b_e)

with m_e the multiplier that the chain of parts gives the number; the contributions sum
to y(x) - y(b), y the score of the target class before any softmax.

Source: Shrikumar et al. 2017, "Learning Important Features Through Propagating
Activation Differences", equations 1 to 3 and section 3.5.1.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.errors import UnsupportedModelError
from explain.frozen import frozen
from explain.methods.input_forward import (
    as_columns,
    input_forward,
    like_targets,
    spoiled,
)
from explain.methods.method import Attribution, chosen_targets
from explain.tables.gated_table import GatedTable
from explain.tables.rescale import require_rescalable, rescaled
from explain.tables.trees import TreeEnsemble

#: Largest residual, beside the scores' own size: more means a part that was missed.
_TOLERANCE = 1e-2


class DeepLift:
    """DeepLIFT of one network behind gates."""

    name = "deeplift"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
    ) -> None:
        """Take the model.

        Raises:
            UnsupportedModelError: it is a tree model, or a part has no rule.
        """
        self._model = _gated_network(model)
        require_rescalable(self._model.network)

    @property
    def passes(self) -> float:
        """A forward and a backward pass of the row and its reference."""
        return 6.0

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the contribution of each column to each item's target.

        Each further target costs one more backward pass.

        Shape: inputs (N, 1, 1, C) gates, targets (N,) or (N, T) int64 -> maps
        (N, 1, C).

        Raises:
            InvalidTargetError: a target class the model does not have.
            UnsupportedModelError: the contributions do not sum to the change of the
                score, because an activation is no module of the network.
        """
        gates = inputs.detach()
        # A row and its reference are neighbours: copies of one item stay together.
        pairs = torch.stack([gates, torch.zeros_like(gates)], dim=1).flatten(0, 1)
        with frozen(self._model), rescaled(self._model.network):
            forward = input_forward(self._model, pairs)
            scores = forward.logits.detach()
            logits = scores[0::2].float()
            classes = chosen_targets(logits, targets)
            columns = as_columns(classes)
            last = columns.shape[1] - 1
            contributions = [
                forward.gradient(column.repeat_interleave(2), last=place == last)
                for place, column in enumerate(columns.unbind(dim=1))
            ]
        with torch.no_grad():
            change = (scores[0::2].double() - scores[1::2].double()).gather(1, columns)
            maps = torch.stack(
                [each[0::2, 0] * gates[:, 0] for each in contributions], dim=1
            )
            _require_complete(maps, change)
            blank = (maps == 0).flatten(2).all(dim=2)
        return Attribution(
            logits=logits,
            targets=classes,
            maps=like_targets(spoiled(maps.float(), logits, classes), classes),
            zero_gradient=like_targets(blank, classes),
            output_change=like_targets(change, classes),
        )


def _gated_network(model: nn.Module) -> GatedTable:
    if not isinstance(model, GatedTable) or isinstance(model.network, TreeEnsemble):
        raise UnsupportedModelError(
            "Method 'deeplift' explains networks on table rows; use tree_shap for a"
            " tree model."
        )
    return model


def _require_complete(maps: Tensor, change: Tensor) -> None:
    """Refuse contributions that miss the change of the score by far.

    Shape: maps (N, T, 1, C), change (N, T).
    """
    residual = (maps.double().sum(dim=(2, 3)) - change).abs()
    if bool((residual > _TOLERANCE * (1 + change.abs())).any()):
        raise UnsupportedModelError(
            "DeepLIFT's contributions do not sum to the change of the score: the"
            " network applies an activation that is no module of its own; use"
            " integrated_gradients or kernelshap."
        )

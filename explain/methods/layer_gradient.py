# SPDX-License-Identifier: Apache-2.0
"""What the gradient methods of the CAM family share: all but the rule.

They differ in one line each, how activation and gradient of the tapped layer make
a map. The pass, the targets and the care for the model are the same.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.method import Attribution, chosen_targets
from explain.methods.split_forward import split_forward


class LayerGradientMethod(ABC):
    """A method whose map is a rule of one layer's activation and gradient."""

    name: ClassVar[str]

    def __init__(self, model: nn.Module, layer: TappedLayer) -> None:
        self._model = model
        self._layer = layer

    @abstractmethod
    def rule(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the rectified maps that activation and gradient make.

        Shape: (N, C, h, w) each -> (N, h, w).
        """

    @property
    def passes(self) -> float:
        """About one forward pass: the head's backward pass is small beside it."""
        return 1.1

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,  # noqa: ARG002 - nothing random here
    ) -> Attribution:
        """Return the map of each item's target; None means the predicted class.

        Costs one forward pass and the backward pass of the head, one more for each
        further target. Leaves the model's modes, gradients, hooks and
        ``requires_grad`` as they were, also when it raises. Weights and sums are
        float32 whatever the model's type.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the layer yields no map, or no score depends on it.
        """
        with frozen(self._model):
            forward = split_forward(self._model, self._layer, inputs)
            classes = chosen_targets(forward.logits, targets)
            return forward.attribution(classes, self.rule)

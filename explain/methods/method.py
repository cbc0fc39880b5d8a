# SPDX-License-Identifier: Apache-2.0
"""What every attribution method takes and gives."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from explain.errors import InvalidTargetError


@dataclass(frozen=True, slots=True)
class Attribution:
    """The raw maps of one batch, on the device of the inputs, without a graph.

    Shape: logits (N, K) float32, targets (N,) int64, maps (N, h, w) float32 at
    the tapped layer's resolution and in raw magnitude, zero_gradient (N,) bool.
    """

    logits: Tensor
    targets: Tensor
    maps: Tensor
    zero_gradient: Tensor


class Method(Protocol):
    """A way to explain a batch; the same instance serves many batches."""

    @property
    def name(self) -> str:
        """The name that the method is registered under."""

    def explain(self, inputs: Tensor, targets: Tensor | None) -> Attribution:
        """Return the map of each item's target; None means the predicted class.

        Shape: inputs (N, C, H, W), targets (N,) int64.
        """


def chosen_targets(logits: Tensor, targets: Tensor | None) -> Tensor:
    """Return the target classes: those given, checked, or else the predicted ones.

    Shape: logits (N, K) -> (N,) int64.

    Raises:
        InvalidTargetError: wrong count, not whole numbers, or out of range.
    """
    if targets is None:
        return logits.detach().argmax(dim=1)
    items, classes = logits.shape
    if targets.shape != (items,):
        raise InvalidTargetError(
            f"Expected one target for each of {items} items, got shape"
            f" {tuple(targets.shape)}."
        )
    if targets.is_floating_point() or targets.is_complex():
        raise InvalidTargetError(
            f"Expected whole-number target classes, got {targets.dtype}."
        )
    least, most = int(targets.min()), int(targets.max())
    if least < 0 or most >= classes:
        wrong = least if least < 0 else most
        raise InvalidTargetError(
            f"Target class {wrong} is out of range: the model has classes 0 to"
            f" {classes - 1}."
        )
    return targets.to(device=logits.device).long()

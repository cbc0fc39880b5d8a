# SPDX-License-Identifier: Apache-2.0
"""What every attribution method takes and gives."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from explain.context import ItemContext
from explain.errors import InvalidTargetError


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The raw maps of one batch, on the device of the inputs, without a graph.

    With one target an item the target axis T is absent from every shape; with
    several, maps and the rest have it after the item axis.

    Attributes:
        logits: (N, K) float32.
        targets: (N,) or (N, T) int64.
        maps: (N, h, w) or (N, T, h, w) float32, at the method's own resolution and
            in raw magnitude.
        zero_gradient: (N,) or (N, T) bool: the target does not depend on what the
            method differentiates or perturbs, so that the map is blank.
        output_change: For methods whose maps should sum to it (a completeness
            axiom): f(input) - f(baseline) of the target, (N,) or (N, T) float64.
        halved: Whether a batch had to be halved for lack of memory, which changes
            last bits.
    """

    logits: Tensor
    targets: Tensor
    maps: Tensor
    zero_gradient: Tensor
    output_change: Tensor | None = None
    halved: bool = False


class Method(Protocol):
    """A way to explain a batch; the same instance serves many batches."""

    @property
    def name(self) -> str:
        """The name that the method is registered under."""

    @property
    def passes(self) -> float:
        """About what an explanation costs, in forward passes an item."""

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the map of each item's target; None means the predicted class.

        Targets of shape (N, T) explain T classes an item, which share the forward
        pass. Without a context, items count as numbered from 0 under seed 0.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.
        """


def chosen_targets(logits: Tensor, targets: Tensor | None) -> Tensor:
    """Return the target classes: those given, checked, or else the predicted ones.

    Pass targets on the CPU: checking them there costs no wait for a GPU.

    Shape: logits (N, K), targets (N,) or (N, T) -> the same, int64.

    Raises:
        InvalidTargetError: wrong count, not whole numbers, or out of range.
    """
    if targets is None:
        return logits.detach().argmax(dim=1)
    items, classes = logits.shape
    if targets.ndim not in {1, 2} or len(targets) != items or targets.numel() == 0:
        raise InvalidTargetError(
            f"Expected one target for each of {items} items (or a row of them),"
            f" got shape {tuple(targets.shape)}."
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

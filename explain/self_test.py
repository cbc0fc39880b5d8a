# SPDX-License-Identifier: Apache-2.0
"""Explaining two items before a run, to refuse one that would emit nonsense.

Each check is a question that a sound set-up answers with yes whatever the pictures
are. It costs three explanations of two items, one of them for several classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.context import ItemContext
from explain.methods.card import MethodCard
from explain.methods.method import Attribution, Method

#: Most classes that are compared; one alone may be blank on noise.
_CLASSES = 4
#: Largest difference between two batches, relative to the map's largest value.
_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer; the sentence says what is wrong if it failed."""

    name: str
    passed: bool
    said: str


def first_checks(
    found: Attribution, card: MethodCard, shape: tuple[int, int] | None, tap: str
) -> list[Check]:
    """Return what one explanation of the two items tells.

    Args:
        found: The explanation of the predicted classes.
        card: The method's.
        shape: The maps' expected height and width; None where the method decides.
        tap: Name of the tapped layer.
    """
    given = tuple(found.maps.shape[1:])
    finite = bool(torch.isfinite(found.logits).all())
    return [
        Check(
            "finite",
            finite and bool(torch.isfinite(found.maps).all()),
            f"The {'maps' if finite else 'class scores'} of two noise images are not"
            f" finite; check the weights and model.preprocess.",
        ),
        Check(
            "shape",
            len(given) == 2 and shape in {None, given},
            f"The maps have shape {given}, expected {shape}.",
        ),
        Check(
            "gradient",
            not (card.needs_layer and bool(found.zero_gradient.all())),
            f"The layer '{tap}' has no gradient for the predicted class, so its maps"
            f" would be blank; name another under model.layer or use auto.",
        ),
    ]


def second_checks(
    method: Method,
    found: Attribution,
    card: MethodCard,
    inputs: Tensor,
    context: ItemContext,
) -> list[Check]:
    """Return what two more explanations tell: in another batch, of other classes.

    Shape: inputs (2, C, H, W), those that were explained.
    """
    swapped = ItemContext(
        draws=type(context.draws)(
            context.draws.seed, context.draws.indices[::-1], context.draws.stream
        ),
        images=None if context.images is None else context.images.flip(0),
        chunk=context.chunk,
    )
    again = method.explain(inputs.flip(0), found.targets.cpu().flip(0), swapped)
    scale = found.maps.abs().amax().clamp(min=1e-30)
    moved = (again.maps.flip(0) - found.maps).abs().amax() / scale
    ranked = found.logits.topk(min(_CLASSES, found.logits.shape[1]), dim=1).indices
    maps = method.explain(inputs, ranked.cpu(), context).maps
    return [
        Check(
            "batch",
            float(moved) <= _TOLERANCE,
            f"An item's map changes by {float(moved):.1%} of its largest value with its"
            f" place in the batch, so results would depend on the order; the network"
            f" lets items influence each other.",
        ),
        Check(
            "not blank",
            bool((maps != 0).any()),
            "The maps of two noise images are blank for every class that was tried.",
        ),
        Check("classes", _differs(maps, card), _SAME),
    ]


_SAME = (
    "The maps of different classes are the same, so they do not explain the class;"
    " check that the model returns one score a class."
)


def _differs(maps: Tensor, card: MethodCard) -> bool:
    """Say whether classes have different maps, where the method promises that.

    Two classes may be each other's mirror image, which magnitudes do not tell apart.

    Shape: (N, T, h, w).
    """
    if not card.class_specific or maps.shape[1] < 3 or not bool((maps != 0).any()):
        return True
    return bool((maps != maps[:, :1]).any())

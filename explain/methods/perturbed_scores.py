# SPDX-License-Identifier: Apache-2.0
"""What a network says to many altered copies of each item, in bounded passes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from explain.chunking import in_pieces
from explain.methods.input_forward import (
    as_columns,
    like_targets,
    require_logits,
    spoiled,
)
from explain.methods.method import Attribution

#: From a range of perturbations to their images (N, k, C, H, W).
MakePerturbed = Callable[[int, int], Tensor]
#: From logits (..., K) and classes (N, T) to scores (..., T) float64.
Score = Callable[[Tensor, Tensor], Tensor]


def probability(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the softmax probability of the target classes.

    Shape: logits (N, k, K), classes (N, T) -> (N, k, T) float64.
    """
    return logit(logits.double().softmax(dim=2), classes)


def logit(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the logits of the target classes.

    Shape: logits (N, k, K), classes (N, T) -> (N, k, T) float64.
    """
    places = classes[:, None].expand(-1, logits.shape[1], -1)
    return logits.double().gather(2, places)


def perturbed_scores(
    model: nn.Module,
    classes: Tensor,
    total: int,
    size: int,
    make: MakePerturbed,
    score: Score,
) -> tuple[Tensor, bool]:
    """Return the target's score on every perturbation, and whether passes shrank.

    Every pass holds ``size`` perturbations of each item, the last may hold fewer:
    its shape depends on the batch size alone. All targets share the passes.

    Args:
        model: The network, held by ``frozen``.
        classes: (N,) or (N, T) int64.
        total: How many perturbations of each item there are.
        size: Perturbations of each item in one forward pass.
        make: Gives the images of a range of perturbations.
        score: What of the logits counts.

    Shape: (N, total, T) float64.
    """
    columns = as_columns(classes)
    items, targets = columns.shape
    scores = torch.empty(
        items, total, targets, dtype=torch.float64, device=classes.device
    )

    def work(start: int, stop: int) -> None:
        images = make(start, stop)
        logits = require_logits(model(images.flatten(0, 1)), items * (stop - start))
        logits = logits.reshape(items, stop - start, logits.shape[1])
        scores[:, start:stop] = score(logits, columns)

    with torch.no_grad():
        return scores, in_pieces(total, size, work)


def unmoved(
    scores: Tensor, whole: Tensor, inputs: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """Say where no perturbation changed the target's score at all.

    That is also so where there is nothing to take away, because the item is its own
    baseline; last bits of the network would show there otherwise.

    Args:
        scores: (N, P, T) on the perturbations.
        whole: (N, T) on the whole input.
        inputs: (N, C, H, W).
        baseline: What replaced parts of the input; None stands for zero.

    Shape: (N, T) bool.
    """
    still = (scores == whole[:, None]).all(dim=1)
    same = inputs == (0 if baseline is None else baseline)
    return still | same.flatten(1).all(dim=1)[:, None]


def perturbation_attribution(
    logits: Tensor,
    classes: Tensor,
    maps: Tensor,
    blank: Tensor,
    *,
    halved: bool,
    output_change: Tensor | None = None,
) -> Attribution:
    """Return the maps as an attribution: blank where nothing moved, NaN where broken.

    Shape: logits (N, K), classes (N,) or (N, T), maps (N, T, h, w), blank (N, T),
    output_change (N, T).
    """
    maps = torch.where(blank[:, :, None, None], 0.0, maps).float()
    logits = logits.float()
    change = None
    if output_change is not None:
        change = like_targets(output_change, classes)
    return Attribution(
        logits=logits,
        targets=classes,
        maps=like_targets(spoiled(maps, logits, classes), classes),
        zero_gradient=like_targets(blank, classes),
        output_change=change,
        halved=halved,
    )

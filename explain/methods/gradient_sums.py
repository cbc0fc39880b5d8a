# SPDX-License-Identifier: Apache-2.0
"""Weighted sums of input gradients over many variants of each item."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from explain.chunking import in_pieces
from explain.methods.input_forward import as_columns, input_forward

#: From a range of variants to their images (N, k, C, H, W).
MakeVariants = Callable[[int, int], Tensor]


def weighted_gradients(
    model: nn.Module,
    classes: Tensor,
    weights: Sequence[float],
    size: int,
    make: MakeVariants,
) -> tuple[Tensor, bool]:
    """Return sum_s weight_s * d logit[class] / d variant_s, and whether passes shrank.

    Every pass holds ``size`` variants of each item (the last may hold fewer), and
    all targets share its forward pass. The sum is float64 and adds one variant
    after the other, so that its order does not depend on the pass size.

    Args:
        model: The network, held by ``frozen``.
        classes: (N,) or (N, T) int64.
        weights: One a variant.
        size: Variants of each item in one forward pass.
        make: Gives the variants of a range.

    Shape: (N, T, C, H, W) float64.
    """
    columns = as_columns(classes)
    total: Tensor | None = None

    def work(start: int, stop: int) -> None:
        nonlocal total
        images = make(start, stop)
        forward = input_forward(model, images.flatten(0, 1))
        count = columns.shape[1]
        gradients = [
            forward.gradient(
                columns[:, place].repeat_interleave(stop - start),
                last=place == count - 1,
            ).view(images.shape)
            for place in range(count)
        ]
        with torch.no_grad():
            if total is None:
                shape = (len(images), count, *images.shape[2:])
                total = images.new_zeros(shape, dtype=torch.float64)
            # Nothing is added before all gradients are there: a pass that runs out
            # of memory leaves no trace.
            for place, gradient in enumerate(gradients):
                for variant in range(stop - start):
                    weight = weights[start + variant]
                    total[:, place].add_(gradient[:, variant], alpha=weight)

    halved = in_pieces(len(weights), size, work)
    if total is None:
        raise ValueError("Expected at least one variant.")
    return total, halved

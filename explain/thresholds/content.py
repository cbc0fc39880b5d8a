# SPDX-License-Identifier: Apache-2.0
"""How busy a picture is: the entropy of its grey levels, and its share of edges."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from explain.errors import InvalidInputError

#: Weights of red, green and blue in grey (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def grey(images: Tensor) -> Tensor:
    """Return the grey levels of the pictures.

    Three channels are weighted as the eye does, others averaged.

    Shape: (N, C, H, W) -> (N, H, W) float32.
    """
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise InvalidInputError(
            f"Expected images (N, C, H, W) with values in [0, 1], got"
            f" {tuple(images.shape)}."
        )
    planes = images.detach().float().unbind(dim=1)
    if len(planes) == len(_LUMA):
        red, green, blue = (
            plane * weight for plane, weight in zip(planes, _LUMA, strict=True)
        )
        return red + green + blue
    return torch.stack(planes).sum(dim=0) / len(planes)


def entropy(levels: Tensor) -> Tensor:
    """Return the entropy of 256 grey levels as a share of its greatest value, 8 bit.

    Shape: (N, H, W) in [0, 1] -> (N,) float64 in [0, 1].
    """
    steps = (levels.flatten(1) * 255).round().nan_to_num(0.0).clamp(0, 255).long()
    counts = torch.zeros(len(steps), 256, dtype=torch.int64, device=levels.device)
    counts.scatter_add_(1, steps, torch.ones_like(steps))
    share = counts.double() / steps.shape[1]
    bits: Tensor = -torch.special.xlogy(share, share).sum(dim=1) / math.log(256)
    return bits


def edge_density(levels: Tensor, edge: float) -> Tensor:
    """Return the share of pixels on an edge.

    An edge is where the Sobel gradient, scaled so that a sharp step from black to
    white has size 1 (along one axis), is above the given size.

    Shape: (N, H, W) in [0, 1] -> (N,) float64 in [0, 1].
    Source: Sobel and Feldman 1968; scaling and borders as in scikit-image, without
    its division by the root of 2.
    """
    framed = pad(levels[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    smooth_rows = framed[:, :-2] + 2 * framed[:, 1:-1] + framed[:, 2:]
    across = (smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]) / 4
    smooth_columns = framed[..., :-2] + 2 * framed[..., 1:-1] + framed[..., 2:]
    down = (smooth_columns[:, 2:] - smooth_columns[:, :-2]) / 4
    strong = across.square() + down.square() > edge**2
    return strong.flatten(1).double().mean(dim=1)

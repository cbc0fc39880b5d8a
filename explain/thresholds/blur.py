# SPDX-License-Identifier: Apache-2.0
"""A Gaussian blur: what stands in for what a mask takes away."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

#: Where the kernel is cut off, in standard deviations.
_REACH = 3.0


def blurred(inputs: Tensor, sigma: float) -> Tensor:
    """Return the inputs blurred along rows and columns, edges extended.

    The kernel reaches to three standard deviations. Works in float32 and gives the
    inputs' type back.

    Shape: inputs (N, C, H, W); sigma in pixels.
    """
    reach = max(1, math.ceil(_REACH * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device=inputs.device)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).float()
    # Channels are items here: one kernel for all of them.
    planes = inputs.detach().float().flatten(0, 1)[:, None]
    rows = conv2d(
        pad(planes, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1)
    )
    both = conv2d(
        pad(rows, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1)
    )
    return both.view(inputs.shape).to(inputs.dtype)

# SPDX-License-Identifier: Apache-2.0
"""What stands for "nothing there" when parts of an input are taken away."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from explain.errors import InvalidParameterError

#: The kinds of baseline by name.
BASELINES = ("zero", "mean", "blur")
#: Standard deviation of the blur over the input's shorter side: 10 pixels in 224.
_BLUR = 10 / 224


def baseline_of(inputs: Tensor, kind: str) -> Tensor:
    """Return each item's baseline, of the inputs' shape and type.

    - ``zero``: zero in normalised space, the mean colour of the training data;
    - ``mean``: the item's own mean colour;
    - ``blur``: the item blurred until only large shapes are left.

    Shape: (N, C, H, W) -> the same.

    Raises:
        InvalidParameterError: no baseline of that kind.
    """
    if kind == "zero":
        return torch.zeros_like(inputs)
    if kind == "mean":
        means = inputs.double().mean(dim=(2, 3), keepdim=True)
        return means.to(inputs.dtype).expand_as(inputs)
    if kind == "blur":
        return blurred(inputs, _BLUR * min(inputs.shape[2:]))
    raise InvalidParameterError(
        f"There is no baseline {kind!r}; it can be {', '.join(BASELINES)}."
    )


def blurred(inputs: Tensor, sigma: float) -> Tensor:
    """Return the images under a Gaussian blur that ends at the image's border.

    At the border the weights of the pixels that exist are scaled to sum to one, so
    that a constant image stays what it is.

    Args:
        inputs: (N, C, H, W).
        sigma: Standard deviation, in pixels.

    Shape: (N, C, H, W) -> the same, in the inputs' type.
    """
    planes = inputs.flatten(0, 1).double()
    rows, columns = (
        torch.from_numpy(_gaussian(side, sigma)).to(inputs.device, non_blocking=True)
        for side in inputs.shape[2:]
    )
    # One product a plane: a plane's bits then do not depend on its neighbours.
    planes = torch.bmm(rows.expand(len(planes), -1, -1), planes)
    planes = torch.bmm(planes, columns.T.expand(len(planes), -1, -1))
    return planes.view(inputs.shape).to(inputs.dtype)


@lru_cache(maxsize=16)
def _gaussian(side: int, sigma: float) -> npt.NDArray[np.float64]:
    """Return the weight of each pixel in each blurred pixel of one axis."""
    places = np.arange(side, dtype=np.float64)
    distance = (places[:, None] - places[None, :]) / sigma
    weights = np.exp(-0.5 * distance**2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))

# SPDX-License-Identifier: Apache-2.0
"""Connected parts of masks, on the host, for rules that judge whole parts.

Kept positions touch along sides and corners; holes along sides only, so that no
hole leaks through a diagonal line.
"""

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidParameterError

Masks = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]


def labelled(masks: Masks) -> tuple[Labels, int]:
    """Return a number for each connected part, 1 onwards over the batch; 0 is none.

    Shape: masks (N, H, W) bool -> (N, H, W) int64.
    """
    structure = np.zeros((3, 3, 3), dtype=np.bool_)
    structure[1] = True
    labels, count = scientific("scipy.ndimage").label(masks, structure)
    return labels.astype(np.int64), int(count)


def areas(labels: Labels, count: int) -> Labels:
    """Return the positions of each part, (count + 1,); entry 0 is the background."""
    return np.bincount(labels.ravel(), minlength=count + 1).astype(np.int64)


def holes(masks: Masks) -> Masks:
    """Return what is not kept but shut in by what is, (N, H, W) bool."""
    structure = np.zeros((3, 3, 3), dtype=np.bool_)
    structure[1, 1, :] = structure[1, :, 1] = True
    labels, count = scientific("scipy.ndimage").label(~masks, structure)
    open_parts = np.zeros(count + 1, dtype=np.bool_)
    open_parts[0] = True
    for side in (
        labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1],
    ):  # fmt: skip
        open_parts[side.ravel()] = True
    shut: Masks = ~open_parts[labels]
    return shut


def blocks(masks: Masks) -> Masks:
    """Return the upright rectangles around the connected parts, filled."""
    labels, count = labelled(masks)
    filled = np.zeros_like(masks)
    if not count:
        return filled
    for box in scientific("scipy.ndimage").find_objects(labels):
        filled[box] = True
    return filled


def scientific(module: str) -> Any:
    """Return a module of scipy or scikit-image, importing it now.

    Raises:
        InvalidParameterError: it is not installed; says what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InvalidParameterError(
            f"This threshold policy needs {module}, which is not installed; install"
            f" scikit-image (it brings scipy), or choose another policy."
        ) from error

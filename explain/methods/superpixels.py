# SPDX-License-Identifier: Apache-2.0
"""Superpixels: the parts of an image that LIME and KernelSHAP switch off and on.

Source: SLIC, Achanta et al. 2012, "SLIC Superpixels Compared to State-of-the-art
Superpixel Methods"; quickshift, Vedaldi and Soatto 2008, "Quick Shift and Kernel
Methods for Mode Seeking".
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from explain.baselines import baseline_of
from explain.draws import ItemDraws
from explain.errors import InvalidInputError
from explain.methods.perturbation_cards import UNITS


@dataclass(frozen=True, slots=True, eq=False)
class Superpixels:
    """The parts of each item of one batch.

    Attributes:
        labels: (N, H * W) int64 on the inputs' device: the part of each pixel, 0 to
            one less than the item's count.
        counts: How many parts each item has.
        areas: (N, S) float64, pixels of each part; 1 beyond the item's count.
        size: (H, W).
    """

    labels: Tensor
    counts: tuple[int, ...]
    areas: Tensor
    size: tuple[int, int]

    def visible(self, switched_on: Tensor) -> Tensor:
        """Return the pixels whose part is on.

        Shape: (N, k, S) bool -> (N, k, H, W) bool.
        """
        places = self.labels[:, None].expand(-1, switched_on.shape[1], -1)
        return switched_on.gather(2, places).view(*places.shape[:2], *self.size)

    def switched(
        self, inputs: Tensor, baseline: Tensor, switches: Tensor
    ) -> Callable[[int, int], Tensor]:
        """Return what makes the inputs of a range of switchings.

        A superpixel that is off shows the baseline.

        Shape: inputs, baseline (N, C, H, W), switches (N, S, P) bool -> a range
        [start, stop) gives (N, stop - start, C, H, W).
        """

        def between(start: int, stop: int) -> Tensor:
            on = self.visible(switches[:, start:stop])[:, :, None]
            return torch.where(on, inputs[:, None], baseline[:, None])

        return between

    def spread(self, values: Tensor) -> Tensor:
        """Return maps in which each pixel has the value of its part.

        Shape: (N, T, S) -> (N, T, H, W).
        """
        places = self.labels[:, None].expand(-1, values.shape[1], -1)
        return values.gather(2, places).view(*places.shape[:2], *self.size)


def superpixels(
    inputs: Tensor, images: Tensor | None, algorithm: str, segments: int
) -> Superpixels:
    """Return each item's superpixels, found on the CPU, item by item.

    Args:
        inputs: (N, C, H, W), normalised.
        images: What a person sees, (N, C, H, W) in [0, 1]; where None, the inputs
            scaled to [0, 1] item by item stand in.
        algorithm: ``slic``, ``quickshift``, or ``units`` for a part a place.
        segments: About how many; quickshift decides for itself.

    Raises:
        InvalidInputError: images and inputs differ in size.
    """
    if algorithm == UNITS:
        return _units(inputs)
    seen = _scaled(inputs) if images is None else images
    if len(seen) != len(inputs) or seen.shape[2:] != inputs.shape[2:]:
        raise InvalidInputError(
            f"Expected images of the inputs' count and size, {tuple(inputs.shape)},"
            f" got {tuple(seen.shape)}."
        )
    pictures = seen.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    pictures = np.nan_to_num(pictures, nan=0.0, posinf=1.0, neginf=0.0)
    found = [_segment(picture, algorithm, segments) for picture in pictures]
    counts = tuple(int(labels.max()) + 1 for labels in found)
    areas = np.ones((len(found), max(counts)))
    for row, labels in zip(areas, found, strict=True):
        sizes = np.bincount(labels.ravel())
        row[: len(sizes)] = sizes
    device, height, width = inputs.device, inputs.shape[2], inputs.shape[3]
    return Superpixels(
        labels=torch.from_numpy(np.stack(found).reshape(len(found), -1)).to(device),
        counts=counts,
        areas=torch.from_numpy(areas).to(device),
        size=(int(height), int(width)),
    )


def _units(inputs: Tensor) -> Superpixels:
    """Return each place of the inputs as a part of its own."""
    items, _channels, height, width = inputs.shape
    count = height * width
    places = torch.arange(count, device=inputs.device)
    return Superpixels(
        labels=places.expand(items, -1),
        counts=(count,) * items,
        areas=torch.ones((items, count), dtype=torch.float64, device=inputs.device),
        size=(height, width),
    )


def part_baseline(inputs: Tensor, parts: Superpixels, kind: str) -> Tensor:
    """Return what a pixel shows when its part is off, of the inputs' shape and type.

    Args:
        inputs: (N, C, H, W).
        parts: Their superpixels.
        kind: ``segment_mean``, the part's own mean colour, or a kind that
            ``baseline_of`` knows.
    """
    if kind != "segment_mean":
        return baseline_of(inputs, kind)
    # On the CPU sums have one order; on a GPU they would differ from run to run.
    labels = parts.labels.cpu()[:, None].expand(-1, inputs.shape[1], -1)
    pixels = inputs.detach().flatten(2).cpu().double()
    sums = pixels.new_zeros(*pixels.shape[:2], max(parts.counts))
    sums.scatter_add_(2, labels, pixels)
    means = sums / parts.areas.cpu()[:, None]
    return means.gather(2, labels).view(inputs.shape).to(inputs)


def own_draws(draws: ItemDraws, item: int) -> ItemDraws:
    """Return the draws of one item alone, for shapes that its superpixels decide."""
    return replace(draws, indices=(draws.indices[item],))


def _scaled(inputs: Tensor) -> Tensor:
    """Return each item scaled to [0, 1] over its finite values; constant ones are 0."""
    finite = torch.isfinite(inputs)
    low = torch.where(finite, inputs, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    high = torch.where(finite, inputs, -torch.inf).amax(dim=(1, 2, 3), keepdim=True)
    width = torch.where(high > low, high - low, 1)
    return torch.where(finite, (inputs - low) / width, 0)


def _segment(
    picture: npt.NDArray[np.float32], algorithm: str, segments: int
) -> npt.NDArray[np.int64]:
    """Return one picture's labels, without gaps from 0; (H, W, C) -> (H, W)."""
    # Heavy and needed here alone, so imported when it is.
    segmentation: Any = import_module("skimage.segmentation")
    colour = picture.shape[2] == 3
    if algorithm == "slic":
        # Slightly smoothed, or else SLIC makes one single part of a noisy image.
        labels = segmentation.slic(
            picture,
            n_segments=segments,
            compactness=20,
            sigma=1,
            start_label=0,
            channel_axis=-1,
        )
    else:
        # The settings of the LIME package.
        labels = segmentation.quickshift(
            picture, kernel_size=4, max_dist=200, ratio=0.2, convert2lab=colour
        )
    inverse = np.unique(labels, return_inverse=True)[1]
    return np.asarray(inverse, dtype=np.int64).reshape(picture.shape[:2])

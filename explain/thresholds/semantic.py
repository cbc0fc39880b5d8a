# SPDX-License-Identifier: Apache-2.0
"""Keep whole regions of the picture, so that the mask ends where objects do.

Attribution maps are coarse and run over object boundaries. Here the picture is
parted first, by superpixels or by a given segmentation, and regions are kept or left
as wholes. Superpixels are made on the host, once an item.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from explain.errors import InvalidInputError, InvalidParameterError
from explain.numpy_maps import kept_count
from explain.thresholds.components import Labels, Masks, scientific
from explain.thresholds.policy import (
    Need,
    ThresholdContext,
    ThresholdResult,
    require_context,
)
from explain.thresholds.shaped import grid, shaped_result

_SEGMENTS = ("slic", "felzenszwalb", "given")


@dataclass(frozen=True, slots=True)
class Semantic:
    """Keeps the regions of the highest mean positive attribution, as wholes.

    Regions are taken until they cover keep of the positions (by area) or hold tau of
    the positive mass (by mass); after that every region stays whose mean is at least
    gamma of the best one's, so that a second object is not dropped. A label that
    occurs in two places counts as two regions. Positions of a kept region stay
    whatever their own attribution.

    Source: Achanta et al. 2012, "SLIC superpixels compared to state-of-the-art
    superpixel methods"; Felzenszwalb and Huttenlocher 2004, "Efficient graph-based
    image segmentation".
    """

    segments: str = "slic"
    by: str = "area"
    keep: float = 0.10
    tau: float = 0.5
    gamma: float = 0.5
    regions: int = 100

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "semantic"

    @property
    def needs(self) -> frozenset[Need]:
        """The given regions, or the pictures to find some in."""
        return frozenset({Need.REGIONS if self.segments == "given" else Need.IMAGES})

    cut_based: ClassVar[bool] = False
    passes: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if self.segments not in _SEGMENTS or self.by not in {"area", "mass"}:
            raise InvalidParameterError(
                f"Expected segments to be one of {', '.join(_SEGMENTS)} and by to be"
                f" area or mass, got {self.segments!r} and {self.by!r}."
            )
        kept_count(self.keep, 1)

    def apply(
        self, maps: Tensor, context: ThresholdContext | None = None
    ) -> ThresholdResult:
        """Return the masks of the kept regions.

        Shape: maps (N, H, W) float32, or (N, L) with given regions (N, L).

        Raises:
            MissingContextError: there are neither regions nor pictures.
            InvalidInputError: they have another size than the maps.
        """
        given = require_context(self, context)
        pictures = grid(self.name, maps)
        self._check_sizes(maps, given)
        values = pictures.maps.cpu().numpy()
        usable = pictures.usable.cpu().numpy()
        mask = np.zeros(values.shape, dtype=np.bool_)
        for item in usable.nonzero()[0]:
            regions = self._regions(given, int(item)).reshape(values[item].shape)
            mask[item] = self._kept(values[item], connected(regions))
        requested = self.keep if self.by == "area" else None
        chosen = torch.from_numpy(mask).to(maps.device)
        return shaped_result(pictures, chosen, requested)

    def _check_sizes(self, maps: Tensor, context: ThresholdContext) -> None:
        """Refuse regions or pictures of another size than the maps."""
        regions, images = context.regions, context.images
        if self.segments == "given":
            if regions is None or regions.shape != maps.shape:
                raise InvalidInputError(
                    f"Expected regions of the maps' shape {tuple(maps.shape)}, got"
                    f" {None if regions is None else tuple(regions.shape)}."
                )
        elif images is None or maps.shape != (len(images), *images.shape[2:]):
            raise InvalidInputError(
                f"Expected images (N, C, H, W) of the size of the maps"
                f" {tuple(maps.shape)}, got"
                f" {None if images is None else tuple(images.shape)}."
            )

    def _regions(self, context: ThresholdContext, item: int) -> Labels:
        """Return the regions of one item."""
        if self.segments == "given" and context.regions is not None:
            labels: Labels = context.regions[item].cpu().numpy()
            return labels
        assert context.images is not None  # noqa: S101 - require_context saw to it
        picture = context.images[item].detach().float().nan_to_num(0.0)
        found: Labels = self._superpixels(picture.permute(1, 2, 0).cpu().numpy())
        return found

    def _superpixels(self, picture: npt.NDArray[np.float32]) -> Any:
        """Return the superpixels of one picture (H, W, C), (H, W) int64."""
        if picture.shape[2] not in {1, 3}:
            picture = picture.mean(axis=2, keepdims=True)
        colour = np.broadcast_to(picture, (*picture.shape[:2], 3))
        segmentation = scientific("skimage.segmentation")
        if self.segments == "slic":
            return segmentation.slic(
                colour, n_segments=self.regions, compactness=10.0, channel_axis=-1
            )
        least = max(1, colour.shape[0] * colour.shape[1] // (4 * self.regions))
        return segmentation.felzenszwalb(
            colour, scale=100.0, sigma=0.8, min_size=least, channel_axis=-1
        )

    def _kept(self, values: npt.NDArray[np.float32], labels: Labels) -> Masks:
        """Return the positions of the kept regions of one item, (H, W) bool."""
        positive = np.maximum(values, 0).astype(np.float64).ravel()
        places = labels.ravel()
        area = np.bincount(places)
        mass = np.bincount(places, weights=positive)
        mean = mass / np.maximum(area, 1)
        order = np.argsort(-mean, kind="stable")
        order = order[mean[order] > 0]
        if self.by == "area":
            goal = float(kept_count(self.keep, values.size))
            covered = np.cumsum(area[order]).astype(np.float64)
        else:
            covered = np.cumsum(mass[order])
            goal = self.tau * covered[-1]
        enough = int(np.searchsorted(covered, goal)) + 1
        stays = np.zeros(len(area), dtype=np.bool_)
        stays[order[:enough]] = True
        stays |= (mean >= self.gamma * mean[order[0]]) & (mean > 0)
        kept: Masks = stays[labels]
        return kept


def connected(labels: Labels) -> Labels:
    """Return the regions with every connected piece as a region of its own.

    Shape: labels (H, W) -> (H, W), from 0.
    """
    numbered = scientific("skimage.measure").label(
        labels, background=labels.min() - 1, connectivity=1
    )
    pieces: Labels = numbered.astype(np.int64) - 1
    return pieces

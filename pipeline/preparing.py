# SPDX-License-Identifier: Apache-2.0
"""From one line of the manifest to arrays: read, decode, preprocess, look up.

Runs in threads beside the computation; every failure of an item ends here as a reason
on the prepared item, never as an exception.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.decoding import (
    decode_mask,
    decoded,
    normalise,
    preprocess,
    preprocess_mask,
)
from pipeline.domain import ManifestItem
from pipeline.errors import ItemError, Reason
from pipeline.labels import ClassNames
from pipeline.memory_budget import MemoryBudget
from pipeline.reading import ItemReader
from pipeline.spec import PreprocessSpec

if TYPE_CHECKING:
    from explain.gates import Content

#: What a failure to read means when it is the mask's.
_MASK_REASONS = {
    Reason.FILE_MISSING: Reason.MASK_MISSING,
    Reason.FILE_EMPTY: Reason.MASK_UNREADABLE,
    Reason.FILE_UNREADABLE: Reason.MASK_UNREADABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedItem:
    """One item as arrays, or the reason why there are none.

    An image has pixels, an item of another kind has content: it is seen through gates.

    Shape: pixels (C, H, W) float32, normalised; truth (H, W) bool, or a bool a unit.
    """

    item: ManifestItem
    content_sha256: str | None = None
    truth_sha256: str | None = None
    pixels: npt.NDArray[np.float32] | None = None
    content: "Content | None" = None
    axis_labels: tuple[str, ...] = ()
    truth: npt.NDArray[np.bool_] | None = None
    label: int | None = None
    reason: Reason | None = None

    @property
    def has_input(self) -> bool:
        """Whether there is something to explain."""
        return self.pixels is not None or self.content is not None


class Preparer(Protocol):
    """Prepares the items of one run, in threads."""

    def prepare(self, item: ManifestItem) -> PreparedItem:
        """Return the item as arrays, or with the reason why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPreparer:
    """Prepares items of one run.

    Attributes:
        label_required: The target is the label, so an item without one fails.
        mask_required: The mask decides what is kept, so an item without one fails.
        strict_labels: Labels were declared in a column, so an unknown one is an error
            and not just a folder's name.
        budget: Bounds the memory of all threads that decode.
    """

    reader: ItemReader
    preprocess: PreprocessSpec
    classes: ClassNames
    label_required: bool
    strict_labels: bool
    budget: MemoryBudget
    mask_required: bool = False

    def prepare(self, item: ManifestItem) -> PreparedItem:
        """Return the item as arrays, or with the reason why not."""
        digest: str | None = None
        mask: _Mask | None = None
        try:
            data = self._read(item)
            digest = hashlib.sha256(data).hexdigest()
            label = label_of(
                item,
                self.classes,
                required=self.label_required,
                strict=self.strict_labels,
            )
            limits = self.reader.limits
            with decoded(data, limits=limits, budget=self.budget) as image:
                size = image.size
                plain = preprocess(image, self.preprocess)
                del image
            pixels = normalise(plain, self.preprocess)
            mask = self._mask(item)
            truth = None if mask is None else self._truth(mask, size)
        except ItemError as exc:
            return PreparedItem(
                item=item,
                content_sha256=digest,
                truth_sha256=mask.sha256 if mask else None,
                reason=exc.reason,
            )
        return PreparedItem(
            item=item,
            content_sha256=digest,
            truth_sha256=mask.sha256 if mask else None,
            pixels=pixels,
            truth=truth,
            label=label,
        )

    def _read(self, item: ManifestItem) -> bytes:
        if item.duplicate_of is not None:
            raise ItemError(Reason.DUPLICATE_ITEM)
        return self.reader.read(
            item.uri, expected_size=item.size_bytes, expected_version=item.version
        )

    def _mask(self, item: ManifestItem) -> "_Mask | None":
        if not item.mask_uri:
            if self.mask_required:
                raise ItemError(Reason.MASK_MISSING)
            return None
        try:
            data = self.reader.read(item.mask_uri)
        except ItemError as exc:
            raise ItemError(_MASK_REASONS.get(exc.reason, exc.reason)) from exc
        return _Mask(data, hashlib.sha256(data).hexdigest())

    def _truth(self, mask: "_Mask", size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        picture = decode_mask(
            mask.data, size, limits=self.reader.limits, budget=self.budget
        )
        return preprocess_mask(picture, self.preprocess)


def label_of(
    item: ManifestItem, classes: ClassNames, *, required: bool, strict: bool
) -> int | None:
    """Return the class that the item's label names, None where it has none.

    Args:
        item: The item.
        classes: The network's classes.
        required: Whether an item without a label fails.
        strict: Whether an unknown label fails.

    Raises:
        ItemError: the label is missing or unknown.
    """
    if not item.label:
        if required:
            raise ItemError(Reason.LABEL_MISSING)
        return None
    try:
        return classes.index_of(item.label)
    except ItemError:
        if strict or required:
            raise
        return None


class _Mask(NamedTuple):
    """The bytes of a ground-truth mask and their digest."""

    data: bytes
    sha256: str

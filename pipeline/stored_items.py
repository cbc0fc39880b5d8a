# SPDX-License-Identifier: Apache-2.0
"""One explanation read back from its artifact, and the pixels it is drawn from.

Numpy and Pillow only: pages are made by processes that do not import torch.
"""

import bisect
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from explain.numpy_maps import dequantise, mask_from_cut, upsample
from pipeline.domain import ItemResult
from pipeline.errors import InfrastructureError, ItemError
from pipeline.packing import read_artifact
from pipeline.reading import ItemReader
from pipeline.reports.pictures import ItemPixels
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.shard_reading import open_artifact, sha256_of
from pipeline.spec import AuditSpec
from storage.objects.errors import DigestMismatchError
from storage.tables import LocationTable, ShardTable


class ItemLookup:
    """Finds explanations of one run, keeping the last artifact it opened."""

    def __init__(self, services: Services, shards: Sequence[ShardTable]) -> None:
        self._services = services
        self._shards = sorted(shards, key=lambda shard: shard.first_item)
        self._starts = [shard.first_item for shard in self._shards]
        self._opened: tuple[int, list[ItemResult]] | None = None

    def shard_of(self, item_index: int) -> ShardTable:
        """Return the shard that an item belongs to."""
        return self._shards[bisect.bisect_right(self._starts, item_index) - 1]

    def find(self, item_index: int) -> ItemResult | None:
        """Return the stored explanation; None while its shard is not done.

        Raises:
            ObjectNotFoundError: the artifact is not in the store.
            DigestMismatchError: it was altered since it was written.
        """
        shard = self.shard_of(item_index)
        if shard.object_key is None:
            return None
        if self._opened is None or self._opened[0] != shard.shard_index:
            rows = self._read(shard.object_key, shard.sha256)
            self._opened = (shard.shard_index, rows)
        rows = self._opened[1]
        return next((row for row in rows if row.item_index == item_index), None)

    def _read(self, key: str, sha256: str | None) -> list[ItemResult]:
        with open_artifact(self._services.store, key) as stream:
            found = sha256_of(stream)
            if found != sha256:
                raise DigestMismatchError(
                    f"The artifact {key} was altered: it has SHA-256 {found}, expected "
                    f"{sha256}; run 'affidavit verify'."
                )
            stream.seek(0)
            return list(read_artifact(stream))


def map_of(result: ItemResult) -> npt.NDArray[np.float32]:
    """Return the attribution as stored, at its native resolution.

    Shape: (h, w) float32.
    """
    values = np.frombuffer(result.map_bytes, dtype="<f2").reshape(
        1, result.map_height, result.map_width
    )
    scale = np.array([result.map_scale], dtype=np.float32)
    restored: npt.NDArray[np.float32] = dequantise(values, scale)[0]
    return restored


def mask_of(result: ItemResult, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the mask: as stored, or rebuilt from map, cut and kept fraction.

    Shape: (H, W) bool.
    """
    if result.mask_bits:
        packed = np.frombuffer(result.mask_bits, dtype=np.uint8)
        bits = np.unpackbits(packed, count=size[0] * size[1])
        return bits.astype(np.bool_).reshape(size)
    large = upsample(map_of(result)[None], size)
    kept = round((result.keep_achieved or 0.0) * size[0] * size[1])
    mask: npt.NDArray[np.bool_] = mask_from_cut(
        large, [result.cut or 0.0], np.array([kept])
    )[0]
    return mask


def pixels_of(
    result: ItemResult,
    location: LocationTable | None,
    *,
    spec: AuditSpec,
    plan: RunPlan,
    reader: ItemReader,
) -> ItemPixels:
    """Return what the pictures of an item are drawn from.

    Without a location, or when the input cannot be read any more, there is no image
    beneath the map.
    """
    height, width = plan.input_shape[1:]
    image = None
    if location is not None:
        image = _image(location, spec=spec, reader=reader)
    return ItemPixels(
        image=image,
        attribution=map_of(result),
        mask=mask_of(result, (height, width)),
    )


def _image(
    location: LocationTable, *, spec: AuditSpec, reader: ItemReader
) -> npt.NDArray[np.uint8] | None:
    from pipeline.decoding import decode, preprocess  # noqa: PLC0415

    try:
        data = reader.read(location.uri, location.size_bytes, location.version)
        picture = preprocess(decode(data, limits=reader.limits), spec.model.preprocess)
    except (ItemError, InfrastructureError):
        # The report is about the explanation; a lost photograph does not stop it.
        return None
    if picture.shape[2] == 1:
        return np.repeat(picture, 3, axis=2)
    return picture

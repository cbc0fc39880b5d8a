# SPDX-License-Identifier: Apache-2.0
"""From one line of the manifest to an item of a kind that is no image.

Runs in threads beside the computation; every failure of an item ends here as a reason
on the prepared item, never as an exception.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.domain import ManifestItem
from pipeline.errors import ItemError, Reason
from pipeline.kinds.kind import DataKind
from pipeline.labels import ClassNames
from pipeline.preparing import PreparedItem, label_of
from pipeline.records import Record, RecordReader

if TYPE_CHECKING:
    from explain.gates import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPreparer:
    """Prepares items of one run.

    Attributes:
        records: Reads rows and files.
        kind: Makes an item of what was read.
        classes: The network's classes.
        label_required: The target is the label, so an item without one fails.
        strict_labels: Labels were declared in a column, so an unknown one is an error.
    """

    records: RecordReader
    kind: DataKind
    classes: ClassNames
    label_required: bool
    strict_labels: bool

    def prepare(self, item: ManifestItem) -> PreparedItem:
        """Return the item decoded, or with the reason why not."""
        digest: str | None = None
        try:
            record = self._read(item)
            digest = record.sha256
            label = label_of(
                item,
                self.classes,
                required=self.label_required,
                strict=self.strict_labels,
            )
            content = self.kind.decode(record)
            truth = self._truth(record, content)
        except ItemError as exc:
            return PreparedItem(item=item, content_sha256=digest, reason=exc.reason)
        return PreparedItem(
            item=item,
            content_sha256=digest,
            truth_sha256=None
            if truth is None
            else hashlib.sha256(np.packbits(truth).tobytes()).hexdigest(),
            content=content,
            axis_labels=self.kind.axis_labels(content),
            truth=truth,
            label=label,
        )

    def _read(self, item: ManifestItem) -> Record:
        if item.duplicate_of is not None:
            raise ItemError(Reason.DUPLICATE_ITEM)
        return self.records.read(item.uri, item.size_bytes, item.version)

    def _truth(
        self, record: Record, content: "Content"
    ) -> npt.NDArray[np.bool_] | None:
        truth = self.kind.truth(record, content)
        if truth is not None and truth.shape != content.units:
            raise ItemError(Reason.MASK_SIZE_MISMATCH)
        return truth

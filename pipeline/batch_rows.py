# SPDX-License-Identifier: Apache-2.0
"""From one batch's tensors to the rows that are stored."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explain.maps import StoredMaps
from explain.methods import Attribution
from explain.thresholds import ThresholdResult, ThresholdStatus
from pipeline.digests import record_digest
from pipeline.domain import ItemResult, Level
from pipeline.errors import Reason
from pipeline.preparing import PreparedItem
from pipeline.run_plan import RunPlan
from storage.states import ItemStatus

#: A metric's values and the reasons of those that are absent, by value key.
Columns = Mapping[str, tuple[list[float], tuple[str | None, ...]]]

#: What a threshold's reservation about a mask means for its item.
_RESERVATIONS = {
    ThresholdStatus.INSUFFICIENT_SUPPORT: Reason.INSUFFICIENT_SUPPORT,
    ThresholdStatus.Q_NOT_REACHED: Reason.Q_NOT_REACHED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredBatch:
    """One batch after the device's work, still as tensors on the device.

    Attributes:
        attribution: Logits, targets and raw maps.
        probabilities: (N,) float64 of the targets.
        stored: The maps as written.
        threshold: The masks.
        cut_based: Whether the masks are what their cuts describe.
        columns: The metrics.
        halved: Whether some pass had to be halved for lack of memory.
    """

    attribution: Attribution
    probabilities: Tensor
    stored: StoredMaps
    threshold: ThresholdResult
    cut_based: bool
    columns: Columns
    halved: bool


class RowWriter:
    """Makes the rows of one run's items."""

    def __init__(self, plan: RunPlan) -> None:
        self._target_rule = plan.target
        self._method = plan.method_name
        self._policy = plan.policy_name
        self._map_kind = plan.map_kind

    def rows(
        self, slots: Sequence[PreparedItem | None], measured: MeasuredBatch | None
    ) -> list[ItemResult]:
        """Return one row for each slot that holds an item, in order.

        Args:
            slots: The batch; None is zero padding.
            measured: What was computed; None when no slot had an input.
        """
        table = None if measured is None else _HostTable(measured)
        rows: list[ItemResult] = []
        for place, slot in enumerate(slots):
            if slot is None:
                continue
            if slot.reason is not None or table is None:
                rows.append(self._failed(slot, slot.reason or Reason.FILE_UNREADABLE))
                continue
            reason = table.refusal(place)
            if reason is not None:
                rows.append(
                    self._failed(slot, reason, predicted=table.predicted(place))
                )
            else:
                rows.append(self._done(slot, place, table))
        return rows

    def _failed(
        self, slot: PreparedItem, reason: Reason, *, predicted: int | None = None
    ) -> ItemResult:
        fields = self._skeleton(slot, status=ItemStatus.FAILED, reason=reason)
        return _sealed(slot, fields | {"predicted": predicted})

    def _done(self, slot: PreparedItem, place: int, table: "_HostTable") -> ItemResult:
        reason = _RESERVATIONS.get(table.status[place])
        fields = self._skeleton(slot, status=ItemStatus.DONE, reason=reason)
        metrics, absences = table.metrics(place)
        return _sealed(
            slot,
            fields | table.numbers(place) | {"metrics": metrics, "absences": absences},
        )

    def _skeleton(
        self, slot: PreparedItem, *, status: ItemStatus, reason: Reason | None
    ) -> dict[str, object]:
        item = slot.item
        return {
            "item_index": item.item_index,
            "item_id": item.item_id,
            "uri": item.item_id if item.salt is not None else item.uri,
            "input_sha256": _shown(slot.content_sha256, item.salt),
            "truth_sha256": _shown(slot.truth_sha256, item.salt),
            "subject_token": item.subject_token,
            "groups": dict(item.groups),
            "status": status,
            "reason": reason,
            "method": self._method,
            "target_rule": self._target_rule,
            "policy": self._policy,
            "label": slot.label,
            "map_kind": self._map_kind,
            "axis_labels": slot.axis_labels,
        }


def _shown(digest: str | None, salt: bytes | None) -> str | None:
    """Return a digest as artifacts show it: a guessed file must not be confirmed."""
    if digest is None or salt is None:
        return digest
    return hashlib.sha256(salt + bytes.fromhex(digest)).hexdigest()


def _sealed(slot: PreparedItem, fields: dict[str, Any]) -> ItemResult:
    """Return the row with the digest of its record."""
    draft = ItemResult(**fields)
    digest = record_digest(
        draft, content_sha256=slot.content_sha256, truth_sha256=slot.truth_sha256
    )
    return ItemResult(**(fields | {"record_digest": digest}))


class _HostTable:
    """One batch's results on the host, fetched once."""

    def __init__(self, measured: MeasuredBatch) -> None:
        attribution, threshold = measured.attribution, measured.threshold
        logits = attribution.logits
        self.status = threshold.status
        self._finite = torch.isfinite(logits).all(dim=1).tolist()
        self._predicted = logits.argmax(dim=1).tolist()
        self._targets = attribution.targets.tolist()
        self._scores = measured.probabilities.double().tolist()
        self._zero_gradient = attribution.zero_gradient.tolist()
        self._values = measured.stored.values.cpu().contiguous().numpy()
        self._scale = measured.stored.scale.tolist()
        self._requested = threshold.requested.double().tolist()
        self._achieved = threshold.achieved.double().tolist()
        self._cut = threshold.cut.double().tolist()
        self._energy = threshold.energy_retained.double().tolist()
        self._masks = None if measured.cut_based else _packed(threshold.mask)
        self._levels = _levels(threshold)
        self._columns = measured.columns

    def refusal(self, place: int) -> Reason | None:
        """Why the map at this place is no explanation, or None."""
        if not self._finite[place]:
            return Reason.NON_FINITE_OUTPUT
        if self._zero_gradient[place]:
            return Reason.ZERO_GRADIENT
        status = self.status[place]
        if status is ThresholdStatus.NON_FINITE:
            return Reason.NON_FINITE_MAP
        if status is ThresholdStatus.CONSTANT_MAP:
            return Reason.CONSTANT_MAP
        return None

    def predicted(self, place: int) -> int | None:
        """Return the predicted class, None where the outputs are not finite."""
        return self._predicted[place] if self._finite[place] else None

    def numbers(self, place: int) -> dict[str, object]:
        """Return the fields of a done item that come from the device."""
        values = self._values[place]
        return {
            "predicted": self._predicted[place],
            "target": self._targets[place],
            "score": self._scores[place],
            "map_bytes": values.astype("<f2").tobytes(),
            "map_scale": self._scale[place],
            "map_height": values.shape[0],
            "map_width": values.shape[1],
            "keep_requested": self._requested[place],
            "keep_achieved": self._achieved[place],
            "cut": self._cut[place],
            "energy_retained": self._energy[place],
            "mask_bits": b"" if self._masks is None else self._masks[place],
            "levels": self._levels[place] if self._levels else (),
        }

    def metrics(self, place: int) -> tuple[dict[str, float], dict[str, str]]:
        """Return the metrics that have a value, and why the others have none."""
        present: dict[str, float] = {}
        absent: dict[str, str] = {}
        for key, (values, reasons) in self._columns.items():
            # A column is finite wherever it gives no reason.
            reason = reasons[place]
            if reason is None:
                present[key] = values[place]
            else:
                absent[key] = reason
        return present, absent


def _packed(masks: Tensor) -> list[bytes]:
    """Return each mask as bits in row order, the first in the highest bit."""
    rows = np.packbits(masks.flatten(1).cpu().numpy(), axis=1)
    return [row.tobytes() for row in rows]


def _levels(threshold: ThresholdResult) -> list[tuple[Level, ...]]:
    """Return the nested masks of each item, none where the policy makes one."""
    levels = threshold.levels
    if levels is None:
        return []
    requested = levels.requested.double().tolist()
    columns = zip(
        levels.achieved.double().tolist(),
        levels.cut.double().tolist(),
        levels.energy_retained.double().tolist(),
        strict=True,
    )
    return [
        tuple(
            Level(
                keep_requested=wanted,
                keep_achieved=achieved,
                cut=cut,
                energy_retained=energy,
            )
            for wanted, achieved, cut, energy in zip(requested, *item, strict=True)
        )
        for item in columns
    ]

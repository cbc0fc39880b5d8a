# SPDX-License-Identifier: Apache-2.0
"""One network on one device, explaining batch after batch: explain, cut, measure.

Every batch has the run's batch size: positions without an input are zero, because
convolutions give other last bits at other batch shapes. What is measured is what is
stored: metrics start from the map as it will be written.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain.architectures import resolve_layer
from explain.frozen import frozen
from explain.maps import StoredMaps, dequantise, quantise, upsample
from explain.methods import Attribution, Method, create_method
from explain.metrics import (
    Metric,
    MetricBatch,
    create_metric,
    target_probability,
)
from explain.randomness import uniform_noise
from explain.thresholds import (
    ThresholdPolicy,
    ThresholdResult,
    ThresholdStatus,
    create_policy,
)
from pipeline.digests import record_digest
from pipeline.domain import ItemResult
from pipeline.errors import Reason
from pipeline.preparing import PreparedItem
from pipeline.run_plan import RunPlan
from storage.states import ItemStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutput:
    """The results of one batch, and whether it had to be halved."""

    results: list[ItemResult]
    halved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One batch after the device's work, still as tensors on the device."""

    attribution: Attribution
    probabilities: Tensor
    stored: StoredMaps
    threshold: ThresholdResult
    columns: dict[str, tuple[list[float], tuple[str | None, ...]]]


def _do_nothing() -> None:
    """Stand in for a listener."""


class Executor:
    """Explains the batches of one run on one device."""

    def __init__(self, plan: RunPlan, model: nn.Module, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        self._model = model.to(device)
        example = torch.zeros((1, *plan.input_shape), device=device)
        layer = resolve_layer(self._model, plan.layer, example)
        self._method: Method = create_method(plan.method, self._model, layer)
        self._policy: ThresholdPolicy = create_policy(
            plan.policy, **plan.policy_arguments
        )
        self._metrics: list[Metric] = [create_metric(name) for name in plan.metrics]
        self._on_step: Callable[[], None] = _do_nothing

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self._device

    @contextmanager
    def session(self, on_step: Callable[[], None] = _do_nothing) -> Iterator[None]:
        """Hold the network frozen and the thread count fixed over many batches.

        Args:
            on_step: Told after each forward pass, since a batch with many metrics can
                take minutes and silence means a hang.
        """
        self._on_step = on_step
        before = torch.get_num_threads()
        torch.set_num_threads(self._plan.threads)
        try:
            with frozen(self._model):
                yield
        finally:
            torch.set_num_threads(before)

    def explain_batch(self, prepared: Sequence[PreparedItem]) -> BatchOutput:
        """Return one result for each item, failed ones included, in order.

        A batch for which the device has too little memory is halved until it fits.
        """
        slots: list[PreparedItem | None] = list(prepared)
        slots += [None] * (self._plan.batch_size - len(slots))
        results, halved = self._explain_slots(slots)
        return BatchOutput(results=results, halved=halved)

    def _explain_slots(
        self, slots: list[PreparedItem | None]
    ) -> tuple[list[ItemResult], bool]:
        try:
            measured = self._compute(slots)
        except torch.OutOfMemoryError:
            if len(slots) == 1:
                raise
            torch.cuda.empty_cache()
            middle = len(slots) // 2
            first, _ = self._explain_slots(slots[:middle])
            second, _ = self._explain_slots(slots[middle:])
            return first + second, True
        return self._write_out(slots, measured), False

    def _compute(self, slots: list[PreparedItem | None]) -> _Measured | None:
        """Explain, cut and measure; None when no slot has an input."""
        valid = torch.tensor([s is not None and s.pixels is not None for s in slots])
        if not bool(valid.any()):
            return None
        inputs = self._stack(slots)
        attribution = self._method.explain(inputs, self._targets(slots))
        probabilities = target_probability(attribution.logits, attribution.targets)
        stored = quantise(attribution.maps)
        maps = upsample(dequantise(stored), (inputs.shape[2], inputs.shape[3]))
        threshold = self._policy.apply(maps)
        columns: dict[str, tuple[list[float], tuple[str | None, ...]]] = {}
        if self._metrics:
            batch = self._metric_batch(
                slots, inputs, attribution, probabilities, stored, maps, threshold
            )
            for metric in self._metrics:
                for key, column in metric.measure(batch).items():
                    columns[key] = (column.values.tolist(), column.absent)
        return _Measured(
            attribution=attribution,
            probabilities=probabilities,
            stored=stored,
            threshold=threshold,
            columns=columns,
        )

    def _stack(self, slots: list[PreparedItem | None]) -> Tensor:
        channels, height, width = self._plan.input_shape
        stacked = torch.zeros((len(slots), channels, height, width))
        for place, slot in enumerate(slots):
            if slot is not None and slot.pixels is not None:
                stacked[place] = torch.from_numpy(slot.pixels)
        return stacked.to(self._device)

    def _targets(self, slots: list[PreparedItem | None]) -> Tensor | None:
        rule = self._plan.target
        if rule == "predicted":
            return None
        if rule == "label":
            labels = [
                0 if slot is None or slot.label is None else slot.label
                for slot in slots
            ]
            return torch.tensor(labels, device=self._device)
        return torch.full((len(slots),), int(rule), device=self._device)

    def _metric_batch(
        self,
        slots: list[PreparedItem | None],
        inputs: Tensor,
        attribution: Attribution,
        probabilities: Tensor,
        stored: StoredMaps,
        maps: Tensor,
        threshold: ThresholdResult,
    ) -> MetricBatch:
        truths = [None if slot is None else slot.truth for slot in slots]
        has_truth = torch.tensor([truth is not None for truth in truths])
        ground_truth: Tensor | None = None
        if bool(has_truth.any()):
            ground_truth = torch.zeros(maps.shape, dtype=torch.bool)
            for place, truth in enumerate(truths):
                if truth is not None:
                    ground_truth[place] = torch.from_numpy(truth)
            ground_truth = ground_truth.to(self._device)
        indices = [0 if slot is None else slot.item.item_index for slot in slots]

        def noise(draw: int) -> Tensor:
            drawn = [
                torch.from_numpy(
                    uniform_noise(self._plan.seed, index, draw, tuple(inputs.shape[1:]))
                )
                for index in indices
            ]
            return torch.stack(drawn).to(self._device)

        return MetricBatch(
            inputs=inputs,
            targets=attribution.targets,
            probabilities=probabilities,
            stored=stored,
            maps=maps,
            mask=threshold.mask,
            ground_truth=ground_truth,
            has_truth=has_truth,
            valid=torch.tensor([s is not None and s.pixels is not None for s in slots]),
            forward=self._forward,
            explain=self._explain,
            noise=noise,
            input_range=torch.tensor(
                [1.0 / std for std in self._plan.std], device=self._device
            ),
        )

    def _forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self._model(inputs)
        self._on_step()
        return logits

    def _explain(self, inputs: Tensor, targets: Tensor) -> Attribution:
        attribution = self._method.explain(inputs, targets)
        self._on_step()
        return attribution

    def _write_out(
        self, slots: list[PreparedItem | None], measured: _Measured | None
    ) -> list[ItemResult]:
        rows: list[ItemResult] = []
        table = None if measured is None else _HostTable(measured)
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
        return self._sealed(
            slot,
            self._skeleton(slot, status=ItemStatus.FAILED, reason=reason)
            | {"predicted": predicted},
        )

    def _done(self, slot: PreparedItem, place: int, table: "_HostTable") -> ItemResult:
        short = table.status[place] is ThresholdStatus.INSUFFICIENT_SUPPORT
        reason = Reason.INSUFFICIENT_SUPPORT if short else None
        fields = self._skeleton(slot, status=ItemStatus.DONE, reason=reason)
        metrics, absences = table.metrics(place)
        return self._sealed(
            slot,
            fields | table.numbers(place) | {"metrics": metrics, "absences": absences},
        )

    def _skeleton(
        self, slot: PreparedItem, *, status: ItemStatus, reason: Reason | None
    ) -> dict[str, object]:
        item = slot.item
        shown = slot.content_sha256
        if shown is not None and item.salt is not None:
            shown = hashlib.sha256(item.salt + bytes.fromhex(shown)).hexdigest()
        return {
            "item_index": item.item_index,
            "item_id": item.item_id,
            "uri": item.item_id if item.salt is not None else item.uri,
            "input_sha256": shown,
            "subject_token": item.subject_token,
            "groups": dict(item.groups),
            "status": status,
            "reason": reason,
            "method": self._plan.method,
            "target_rule": self._plan.target,
            "policy": self._plan.policy_name,
            "label": slot.label,
        }

    @staticmethod
    def _sealed(slot: PreparedItem, fields: dict[str, object]) -> ItemResult:
        draft = ItemResult(**fields)  # type: ignore[arg-type]
        digest = record_digest(draft, content_sha256=slot.content_sha256)
        return ItemResult(**(fields | {"record_digest": digest}))  # type: ignore[arg-type]


class _HostTable:
    """One batch's results on the host, fetched once."""

    def __init__(self, measured: _Measured) -> None:
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
